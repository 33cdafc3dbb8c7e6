"""llama.cpp's own quantization, given the recipe of a mixed file, makes a file of the same types, tensor by tensor.

Usage: llama_quantize.py STRATA C23_NAMES FILES SOURCE
"""

import os
import subprocess
import sys
import tempfile

import gguf
from llama_quantizer import Quantizer


def types_of(path):
    return {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(path).tensors}


def check(strata, quantizer, base, mixed, scratch):
    wanted = types_of(mixed)
    recipe = subprocess.run([strata, "recipe", mixed, "--for", "llama-quantize"], check=True, stdout=subprocess.PIPE,
                            text=True).stdout
    lines = [line.split("=") for line in recipe.split()]
    rules = [(pattern, gguf.GGMLQuantizationType[type_.upper()]) for pattern, type_ in lines]
    embedding = wanted["token_embd.weight"]
    quantizer.quantize(base, f"{scratch}/theirs.gguf", gguf.LlamaFileType.MOSTLY_Q2_K, rules, embedding,
                       wanted.get("output.weight", embedding))
    theirs = types_of(f"{scratch}/theirs.gguf")
    other = {name for name in wanted if theirs.get(name) != wanted[name]}
    if other or theirs.keys() != wanted.keys():
        sys.exit(f"{mixed}: {len(other)} of {len(wanted)} tensors have another type, such as "
                 f"{next((f'{n}: {theirs.get(n)} instead of {wanted[n].name}' for n in other), 'none')}")
    print(f"{os.path.basename(mixed)}: {len(rules)} lines, {len(wanted)} tensors, {len(set(wanted.values()))} types: "
          "the same tensor by tensor")


def main(strata, c23_names, files, source):
    with tempfile.TemporaryDirectory() as scratch:
        try:
            quantizer = Quantizer(c23_names, scratch)
        except ImportError as error:
            print(f"skipped: {error}")
            sys.exit(77)
        base = f"{scratch}/base.gguf"
        plain = "--quiet --effort quick --method uniform --bpw 32 --schemes F32 --embedding F32 --head F32 -o"
        subprocess.run([strata, "quantize", f"{source}/models/tiny-llama", *plain.split(), base], check=True,
                       stdout=subprocess.DEVNULL)
        check(strata, quantizer, base, f"{files}/mixed.gguf", scratch)


main(*sys.argv[1:])
