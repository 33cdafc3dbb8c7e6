"""Every format at about 2.6, 3.2 and 4.5 bits a weight in its runtime: the same most probable next token as strata's
own forward pass on the same file, and its perplexity.

    python3 tests/runtimes/agreement.py STRATA RUNTIME_TOOL MODEL TEXT [WINDOWS [FORMAT ...]]

GGUF runs in llama.cpp (xllamacpp), which rounds activations to 8 bits: at least 97 % of places and perplexity within
1 %. MLX runs through mlx.core's quantized_matmul in the Llama graph that mlx-lm builds: 99.5 % and 0.1 %. For
compressed-tensors and GPTQ see gpu_runtimes.py. The model is an unquantized Hugging Face directory or GGUF.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np

BUDGETS = (2.6, 3.2, 4.5)
WINDOW = 512


def log_losses(logits, ids):
    shifted = logits - logits.max(-1, keepdims=True)
    return np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(ids)), ids]


class LlamaCpp:
    limits = (0.97, 0.01)

    def __init__(self, path):
        import llama_cpp

        self.model = llama_cpp.Model(path)

    def logits(self, ids):
        return self.model.logits(ids)

    def close(self):
        self.model.close()


class Mlx:
    """Llama's forward pass with MLX's own kernels on the packed weights, float activations."""

    limits = (0.995, 0.001)

    def __init__(self, path):
        import mlx.core as mx

        self.mx = mx
        self.config = json.load(open(f"{path}/config.json"))
        self.weights = {}
        for name in sorted(os.listdir(path)):
            if name.endswith(".safetensors"):
                self.weights.update(mx.load(f"{path}/{name}"))
        self.quantization = self.config["quantization"]

    def linear(self, name, x):
        mx, weights = self.mx, self.weights
        if f"{name}.scales" not in weights:
            return x @ weights[f"{name}.weight"].astype(mx.float32).T
        own = self.quantization.get(name, self.quantization)
        y = mx.quantized_matmul(
            x, weights[f"{name}.weight"], weights[f"{name}.scales"].astype(mx.float32),
            weights[f"{name}.biases"].astype(mx.float32), transpose=True, group_size=own["group_size"],
            bits=own["bits"])
        return y

    def norm(self, name, x):
        return self.mx.fast.rms_norm(x, self.weights[f"{name}.weight"].astype(self.mx.float32),
                                     self.config["rms_norm_eps"])

    def logits(self, ids):
        mx, config = self.mx, self.config
        heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
        size = config.get("head_dim") or config["hidden_size"] // heads
        theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
        x = self.weights["model.embed_tokens.weight"][mx.array(ids)].astype(mx.float32)[None]
        for layer in range(config["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            h = self.norm(at + "input_layernorm", x)
            split = lambda name, count: self.linear(at + f"self_attn.{name}_proj", h).reshape(
                1, len(ids), count, size).transpose(0, 2, 1, 3)
            rope = lambda v: mx.fast.rope(v, size, traditional=False, base=theta, scale=1.0, offset=0)
            a = mx.fast.scaled_dot_product_attention(
                rope(split("q", heads)), rope(split("k", kv)), split("v", kv), scale=size**-0.5, mask="causal")
            x = x + self.linear(at + "self_attn.o_proj", a.transpose(0, 2, 1, 3).reshape(1, len(ids), -1))
            h = self.norm(at + "post_attention_layernorm", x)
            gate, up = self.linear(at + "mlp.gate_proj", h), self.linear(at + "mlp.up_proj", h)
            x = x + self.linear(at + "mlp.down_proj", gate * mx.sigmoid(gate) * up)
        x = self.norm("model.norm", x)
        head = "model.embed_tokens" if config.get("tie_word_embeddings") else "lm_head"
        return np.array(self.linear(head, x)[0])

    def close(self):
        self.weights = {}


RUNTIMES = {"gguf": LlamaCpp, "mlx": Mlx}


def run(strata, tool, model, text, windows, format_, budget, folder):
    path = f"{folder}/out.gguf" if format_ == "gguf" else f"{folder}/out"
    subprocess.run([strata, "quantize", model, "--method", "uniform:exact", "--bpw", str(budget), "--format", format_,
                    "--quiet", "-o", path], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([tool, "predictions", path, text, str(windows), f"{folder}/ours"], check=True)
    tokens = np.fromfile(f"{folder}/ours.tokens", np.int32).reshape(windows, WINDOW)
    raw = np.fromfile(f"{folder}/ours", np.int32).reshape(windows, 2, WINDOW - 1)
    runtime = RUNTIMES[format_](path)
    same, losses = 0, 0.0
    for window, best in zip(tokens, raw[:, 0]):
        logits = runtime.logits(window)[: WINDOW - 1]
        same += (logits.argmax(-1) == best).sum()
        losses += log_losses(logits.astype(np.float64), window[1:]).sum()
    runtime.close()
    count = windows * (WINDOW - 1)
    top1 = same / count
    theirs, ours = np.exp(losses / count), np.exp(raw[:, 1].copy().view(np.float32).astype(np.float64).mean())
    least, spread = RUNTIMES[format_].limits
    ok = top1 >= least and abs(theirs / ours - 1) <= spread
    print(f"{format_:6} {budget:4} bpw: same top-1 {100 * top1:6.2f} % (at least {100 * least:g}), perplexity "
          f"{theirs:.4f} beside strata's {ours:.4f} ({100 * (theirs / ours - 1):+.3f} %): {'ok' if ok else 'FAILED'}",
          flush=True)
    return ok


def main():
    strata, tool, model, text = sys.argv[1:5]
    windows = int(sys.argv[5]) if len(sys.argv) > 5 else 8
    formats = sys.argv[6:] or list(RUNTIMES)
    failed = False
    for format_ in formats:
        try:
            __import__({"gguf": "xllamacpp", "mlx": "mlx.core"}[format_])
        except ImportError:
            print(f"{format_}: its runtime is not installed; not run")
            continue
        for budget in BUDGETS:
            with tempfile.TemporaryDirectory() as folder:
                failed |= not run(strata, tool, model, text, windows, format_, budget, folder)
    sys.exit(1 if failed else 0)


main()
