"""The runtimes that agreement.py compares with strata: each opens a file and predicts the next tokens of a text.

A class is made with the path and the device ("cpu" or "cuda"); it raises where its packages are missing or do not
load the file. `keeps_floats`: activations stay in float32. `rounding`: what strata eval --runtime calls what it does
to them otherwise.
"""

import json
import os

import numpy as np


def versions(*names):
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in names)


class Runtime:
    """One that gives logits(ids) [tokens, vocabulary]."""

    def predictions(self, ids):
        """The most probable next tokens, and the losses of the true ones, both [tokens - 1]."""
        logits = self.logits(ids)[:-1].astype(np.float64)
        shifted = logits - logits.max(-1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(ids) - 1), ids[1:]]
        return logits.argmax(-1), losses


class LlamaCpp(Runtime):
    """llama.cpp's own kernels, which round activations to 8 bits."""

    name = "llama.cpp"
    keeps_floats = False
    rounding = "llama.cpp"

    def __init__(self, path, device):
        import llama_cpp

        library, package = self.find_library(llama_cpp)
        self.name = f"llama.cpp ({package})"
        self.model = llama_cpp.Model(path, threads=max(1, (os.cpu_count() or 1) // 2), library=library)

    @staticmethod
    def find_library(llama_cpp):
        return llama_cpp.find_library()

    def logits(self, ids):
        return self.model.logits(ids)

    def __del__(self):
        if hasattr(self, "model"):
            self.model.close()


class LlamaCppBlas(LlamaCpp):
    """llama.cpp built with a BLAS, which multiplies in float32; keys and values are in fp16."""

    name = "llama.cpp with a BLAS"
    keeps_floats = True

    @staticmethod
    def find_library(llama_cpp):
        return llama_cpp.find_blas_library()


class MlxLm(Runtime):
    """mlx-lm's own model on MLX's CPU kernels, its fp16 scales and norms taken as float32."""

    name = "mlx-lm"
    keeps_floats = True

    def __init__(self, path, device):
        from pathlib import Path

        import mlx.core as mx
        from mlx_lm.utils import load_model

        self.mx = mx
        mx.set_default_device(mx.cpu)
        self.model, _ = load_model(Path(path))
        self.model.set_dtype(mx.float32)
        self.name = versions("mlx", "mlx-lm")

    def logits(self, ids):
        return np.array(self.model(self.mx.array(ids)[None])[0])


class MlxKernels(Runtime):
    """Llama's forward pass with MLX's quantized_matmul on the packed weights, float32 activations."""

    name = "mlx.core"
    keeps_floats = True

    def __init__(self, path, device):
        import mlx.core as mx

        self.mx = mx
        mx.set_default_device(mx.cpu)
        self.name = versions("mlx") + " kernels"
        self.config = json.load(open(f"{path}/config.json"))
        self.quantization = self.config["quantization"]
        self.weights = {}
        for name in sorted(os.listdir(path)):
            if name.endswith(".safetensors"):
                self.weights.update(mx.load(f"{path}/{name}"))

    def floats(self, name):
        return self.weights[name].astype(self.mx.float32)

    def packed(self, name):
        own = self.quantization.get(name, self.quantization)
        return {"scales": self.floats(f"{name}.scales"), "biases": self.floats(f"{name}.biases"),
                "group_size": own["group_size"], "bits": own["bits"]}

    def linear(self, name, x):
        if f"{name}.scales" not in self.weights:
            return x @ self.floats(f"{name}.weight").T
        return self.mx.quantized_matmul(x, self.weights[f"{name}.weight"], transpose=True, **self.packed(name))

    def embedding(self, ids):
        name = "model.embed_tokens"
        if f"{name}.scales" not in self.weights:
            return self.floats(f"{name}.weight")[ids]
        return self.mx.dequantize(self.weights[f"{name}.weight"], **self.packed(name))[ids]

    def norm(self, name, x):
        return self.mx.fast.rms_norm(x, self.floats(f"{name}.weight"), self.config["rms_norm_eps"])

    def attention(self, at, x):
        mx, config, count = self.mx, self.config, x.shape[1]
        heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
        size = config.get("head_dim") or config["hidden_size"] // heads
        theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]

        def split(name, heads):
            return self.linear(f"{at}{name}_proj", x).reshape(1, count, heads, size).transpose(0, 2, 1, 3)

        def rotate(values):
            return mx.fast.rope(values, size, traditional=False, base=theta, scale=1.0, offset=0)

        mixed = mx.fast.scaled_dot_product_attention(
            rotate(split("q", heads)), rotate(split("k", kv)), split("v", kv), scale=size**-0.5, mask="causal")
        return self.linear(f"{at}o_proj", mixed.transpose(0, 2, 1, 3).reshape(1, count, -1))

    def logits(self, ids):
        x = self.embedding(self.mx.array(ids))[None]
        for layer in range(self.config["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            x = x + self.attention(f"{at}self_attn.", self.norm(f"{at}input_layernorm", x))
            h = self.norm(f"{at}post_attention_layernorm", x)
            gate, up = self.linear(f"{at}mlp.gate_proj", h), self.linear(f"{at}mlp.up_proj", h)
            x = x + self.linear(f"{at}mlp.down_proj", gate * self.mx.sigmoid(gate) * up)
        head = "model.embed_tokens" if self.config.get("tie_word_embeddings") else "lm_head"
        return np.array(self.linear(head, self.norm("model.norm", x))[0])


class Torch(Runtime):
    """A model of transformers in PyTorch."""

    keeps_floats = True

    def logits(self, ids):
        import torch

        tokens = torch.from_numpy(np.asarray(ids, np.int64))[None].to(self.device)
        with torch.inference_mode():
            return self.model(tokens).logits[0].float().cpu().numpy()


class Transformers(Torch):
    """transformers as its users call it: the quantization is that of config.json."""

    name = "transformers"

    def __init__(self, path, device):
        import torch
        import transformers

        self.device = device
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, device_map=device).eval()
        quantized = getattr(self.model.config, "quantization_config", None) is not None
        self.name = versions("transformers", *(["compressed-tensors"] if quantized else []))


class CompressedTensors(Torch):
    """compressed-tensors unpacks every matrix by its own config, and transformers' model computes with them.

    transformers itself makes room for zero points of other sizes than the library's, so it cannot open those.
    """

    name = "compressed-tensors"

    def __init__(self, path, device):
        import torch
        import transformers
        from compressed_tensors.compressors import BaseCompressor
        from compressed_tensors.quantization import QuantizationConfig
        from compressed_tensors.utils.match import is_match
        from safetensors.torch import load_file

        self.device = device
        self.name = versions("compressed-tensors") + ", unpacked"
        config = transformers.AutoConfig.from_pretrained(path)
        quantization = QuantizationConfig.model_validate(config.quantization_config)
        del config.quantization_config
        self.model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        compressor = BaseCompressor.get_value_from_registry(quantization.format)
        tensors = {}
        for name in os.listdir(path):
            if name.endswith(".safetensors"):
                tensors.update(load_file(f"{path}/{name}"))
        weights = {name: value.float() for name, value in tensors.items() if name.endswith((".weight", ".bias"))}
        for name, module in self.model.named_modules():
            if f"{name}.weight_packed" not in tensors:
                continue
            (scheme,) = [s for s in quantization.config_groups.values()
                         if any(is_match(name, module, target) for target in s.targets)]
            own = {key.removeprefix(f"{name}."): value for key, value in tensors.items()
                   if key.startswith(f"{name}.weight_")}
            weights[f"{name}.weight"] = compressor.decompress(own, scheme)["weight"].float()
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - {"lm_head.weight"}:
            raise ValueError(f"{len(missing)} tensors are missing, {len(unexpected)} unexpected")
        self.model.tie_weights()
        self.model.to(device)


class GptqModel(Torch):
    """GPTQModel's own loader with its PyTorch kernel; in float32, since fp16 is slow on processors."""

    name = "GPTQModel"
    keeps_floats = True

    def __init__(self, path, device):
        import torch
        from gptqmodel import BACKEND, GPTQModel

        self.device = device
        self.name = versions("gptqmodel")
        loaded = GPTQModel.load(path, device=device, backend=BACKEND.TORCH, dtype=torch.float16)
        self.model = loaded.model.float().eval()


class Vllm:
    """vLLM in float32 (GPTQ in fp16, the most it takes), which tells probabilities and not logits."""

    name = "vLLM"
    rounding = None  # fp16

    def __init__(self, path, device):
        os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_CONFIGURE_LOGGING="0",  # GiB
                          VLLM_ENABLE_V1_MULTIPROCESSING="0")
        import torch
        import vllm

        self.vllm = vllm
        self.name = versions("vllm" if device == "cuda" else "vllm-cpu")
        own = {}
        if device == "cpu" and not torch.cpu._is_avx512_supported():
            self.name += ", its 4-bit product replaced"
            own["worker_cls"] = "vllm_worker.Worker"
        quantization = json.load(open(f"{path}/config.json")).get("quantization_config", {})
        self.keeps_floats = quantization.get("quant_method") != "gptq"
        dtype = "float32" if self.keeps_floats else "float16"
        self.model = vllm.LLM(path, dtype=dtype, max_model_len=520, enforce_eager=True, skip_tokenizer_init=True,
                              enable_prefix_caching=False, **own)

    def __del__(self):
        if hasattr(self, "model"):
            self.model.llm_engine.engine_core.shutdown()

    def predictions(self, ids):
        ask = self.vllm.SamplingParams(max_tokens=1, prompt_logprobs=1, detokenize=False)
        (answer,) = self.model.generate({"prompt_token_ids": [int(i) for i in ids]}, ask, use_tqdm=False)
        places = answer.prompt_logprobs[1:]
        best = [max(place, key=lambda token: place[token].logprob) for place in places]
        return np.array(best), np.array([-place[int(token)].logprob for place, token in zip(places, ids[1:])])


RUNTIMES = {
    "gguf": [LlamaCpp, LlamaCppBlas],
    "mlx": [MlxLm, MlxKernels],
    "compressed-tensors": [CompressedTensors],
    "compressed-tensors:symmetric": [Transformers],
    "compressed-tensors:4-bit": [Vllm],
    "gptq": [GptqModel],
    "gptq:4-bit": [Vllm],
    "gptq_v2": [GptqModel],
    "hf": [Transformers, Vllm],
}
