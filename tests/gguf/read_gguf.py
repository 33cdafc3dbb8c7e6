"""Prints what the gguf package reads in a file: keys, then tensors with shape, type, offset and bytes."""

import sys

from gguf import GGUFReader

reader = GGUFReader(sys.argv[1])
for key, field in reader.fields.items():
    if not key.startswith("GGUF."):
        print("key", key, [t.name for t in field.types], field.contents())
for tensor in reader.tensors:
    data = bytes(tensor.data.reshape(-1).view("uint8"))
    print("tensor", tensor.name, list(map(int, tensor.shape)), tensor.tensor_type.name, len(data), sum(data))
