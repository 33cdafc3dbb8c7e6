#!/usr/bin/env python3
"""Random blocks of every GGUF type and what real decoders make of them, for gguf_codec_test.cpp.

    pip install numpy gguf xllamacpp
    python3 tests/data/gguf/make_blocks.py

Writes TYPE.blocks (the bytes) and TYPE.f32 (the weights) beside itself. The weights come from the `gguf` package
and must agree with llama.cpp's own dequantize_row_* functions. The data is random: no licence applies.
"""
import ctypes
import pathlib

import numpy
import xllamacpp
from gguf import GGMLQuantizationType, quants

BLOCKS = 2
# Where the fp16 fields of a block are; all other bytes may have any value.
HALVES = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_XS": [0], "IQ3_S": [0], "IQ3_XXS": [0], "IQ2_S": [0], "IQ2_XS": [0], "IQ2_XXS": [0], "MXFP4": [],
}


def main():
    folder = pathlib.Path(__file__).parent
    ggml = ctypes.CDLL(str(next(pathlib.Path(xllamacpp.__file__).parent.glob("*.so"))))
    random = numpy.random.default_rng(7)
    for name, fields in HALVES.items():
        type_ = GGMLQuantizationType[name]
        elements, size = quants.GGML_QUANT_SIZES[type_]
        blocks = random.integers(0, 256, (BLOCKS, size), numpy.uint8)
        for offset in fields:
            halves = random.uniform(-2, 2, BLOCKS).astype(numpy.float16)
            blocks[:, offset:offset + 2] = halves.view(numpy.uint8).reshape(BLOCKS, 2)
        if name == "MXFP4":
            blocks[:, 0] = random.integers(100, 150, BLOCKS)  # the exponent
        weights = quants.dequantize(blocks.reshape(-1), type_).astype(numpy.float32).reshape(-1)
        native = numpy.zeros(BLOCKS * elements, numpy.float32)
        decoder = getattr(ggml, f"dequantize_row_{name if name.endswith('_K') else name.lower()}".replace("Q", "q"))
        decoder.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        decoder(blocks.ctypes.data, native.ctypes.data, native.size)
        numpy.testing.assert_allclose(weights, native, rtol=1e-6, atol=1e-6)
        blocks.tofile(folder / f"{name}.blocks")
        native.tofile(folder / f"{name}.f32")


if __name__ == "__main__":
    main()
