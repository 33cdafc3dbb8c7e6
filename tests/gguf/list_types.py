"""Prints the storage types and the kinds of files that the gguf package knows."""

from gguf import GGML_QUANT_SIZES, LlamaFileType

for type, (elements, size) in GGML_QUANT_SIZES.items():
    print(f"type {type.name} {int(type)} {elements} {size}")
for kind in LlamaFileType:
    print(f"file {kind.name} {int(kind)}")
