"""gguf.GGUFReader reads the mixed file, and its dequantization equals strata's, value for value.

Usage: gguf_reader.py RUNTIME_TOOL FILES SOURCE
"""

import collections
import subprocess
import sys

import gguf
import numpy as np


def main(tool, files, _):
    path, raw = f"{files}/mixed.gguf", f"{files}/decoded.f32"
    subprocess.run([tool, "decode", path, raw], check=True)
    ours = np.fromfile(raw, np.float32)
    reader = gguf.GGUFReader(path)
    position, largest, types = 0, 0.0, collections.Counter()
    for tensor in reader.tensors:
        theirs = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(-1)
        part = ours[position : position + theirs.size]
        position += theirs.size
        difference = np.abs(part - theirs).max()
        if not difference <= 1e-6:
            sys.exit(f"{tensor.name} ({tensor.tensor_type.name}) differs by {difference}")
        largest = max(largest, difference)
        types[tensor.tensor_type.name] += 1
    if position != ours.size:
        sys.exit(f"strata decodes {ours.size} values, gguf {position}")
    print(f"{len(reader.tensors)} tensors, {dict(types)}: largest difference {largest}")


main(*sys.argv[1:])
