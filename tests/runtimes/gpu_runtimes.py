"""compressed-tensors and GPTQ directories in the software that serves them, on a machine with PyTorch.

    python3 tests/runtimes/gpu_runtimes.py RUNTIME_TOOL TEXT DIRECTORY ...

Each directory was written by `strata quantize --format compressed-tensors|gptq|gptq_v2`. What is not installed is
said to be not run:
 - compressed_tensors: its unpacking and dequantization of every matrix, beside strata's;
 - transformers (with compressed_tensors or gptqmodel): the next tokens over 4,088 places, beside strata's forward pass;
 - vllm: the same through its logits of prompts.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

WINDOWS, WINDOW = 8, 512


def package(name):
    try:
        return __import__(name)
    except Exception as error:  # a package that is there and broken is as good as missing, but says why
        print(f"  {name}: not run ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})")
        return None


def check_unpacking(tool, folder, config):
    """Every packed matrix through the library's own functions."""
    if config["quant_method"] != "compressed-tensors" or not package("compressed_tensors"):
        return
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
    from safetensors.torch import load_file

    tensors = {}
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):
            tensors.update(load_file(f"{folder}/{name}"))
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([tool, "decode", folder, f"{scratch}/values"], check=True)
        ours = np.fromfile(f"{scratch}/values", np.float32)
        names = [line.split() for line in open(f"{scratch}/values.names")]
    largest, position, count = 0.0, 0, 0
    for stem, size in names:
        part = torch.from_numpy(ours[position : position + int(size)])
        position += int(size)
        if f"{stem}.weight_packed" not in tensors:
            continue
        weights = next(g["weights"] for g in config["config_groups"].values()
                       if any(re.match(t[3:], stem) for t in g["targets"]))
        bits, shape = weights["num_bits"], tensors[f"{stem}.weight_shape"].tolist()
        q = unpack_from_int32(tensors[f"{stem}.weight_packed"], bits, torch.Size(shape)).float()
        scale = tensors[f"{stem}.weight_scale"].float()
        if f"{stem}.weight_zero_point" in tensors:
            zero = unpack_from_int32(tensors[f"{stem}.weight_zero_point"], bits, scale.shape, packed_dim=0).float()
            q = q - zero.repeat_interleave(shape[1] // scale.shape[1], 1)
        values = q * scale.repeat_interleave(shape[1] // scale.shape[1], 1)
        largest, count = max(largest, (values.reshape(-1) - part).abs().max().item()), count + 1
    print(f"  compressed_tensors: {count} matrices unpacked, largest difference {largest}")
    assert count > 0 and largest <= 1e-6, "the library reads other weights"


def report(what, best, losses, ours_best, ours_losses):
    top1 = (best == ours_best).mean()
    theirs, ours = np.exp(losses.mean()), np.exp(ours_losses.mean())
    print(f"  {what}: same top-1 {100 * top1:.2f} %, perplexity {theirs:.4f} beside strata's {ours:.4f}")


def check_transformers(folder, tokens, ours):
    if not package("transformers"):
        return
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(folder, device_map="cuda", torch_dtype=torch.float16)
    except Exception as error:
        print(f"  transformers: not run ({type(error).__name__}: {str(error).splitlines()[0]})")
        return
    best, losses = [], []
    for window in tokens:
        ids = torch.from_numpy(window.astype(np.int64))[None].cuda()
        with torch.no_grad():
            logits = model(ids).logits[0, :-1].float()
        best.append(logits.argmax(-1).cpu().numpy())
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").cpu().numpy())
    report("transformers", np.array(best), np.array(losses), *ours)


def check_vllm(folder, tokens, ours):
    if not package("vllm"):
        return
    from vllm import LLM, SamplingParams

    model = LLM(folder, enforce_eager=True, max_model_len=2 * WINDOW)
    settings = SamplingParams(max_tokens=1, prompt_logprobs=1)
    best, losses = [], []
    for output, window in zip(model.generate(prompt_token_ids=[w.tolist() for w in tokens], sampling_params=settings),
                              tokens):
        rows = output.prompt_logprobs[1:]
        best.append([max(row, key=lambda token: row[token].logprob) for row in rows])
        losses.append([-row[int(token)].logprob for row, token in zip(rows, window[1:])])
    report("vllm", np.array(best), np.array(losses), *ours)


def main():
    tool, text, *folders = sys.argv[1:]
    for folder in folders:
        config = json.load(open(f"{folder}/config.json"))["quantization_config"]
        print(f"{folder} ({config['quant_method']} {config.get('checkpoint_format', config.get('format', ''))})")
        check_unpacking(tool, folder, config)
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([tool, "predictions", folder, text, str(WINDOWS), f"{scratch}/ours"], check=True)
            tokens = np.fromfile(f"{scratch}/ours.tokens", np.int32).reshape(WINDOWS, WINDOW)
            raw = np.fromfile(f"{scratch}/ours", np.int32).reshape(WINDOWS, 2, WINDOW - 1)
        ours = raw[:, 0], raw[:, 1].copy().view(np.float32)
        check_transformers(folder, tokens, ours)
        check_vllm(folder, tokens, ours)


main()
