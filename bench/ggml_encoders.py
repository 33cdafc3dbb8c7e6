#!/usr/bin/env python3
"""Compares strata's GGUF encoders with ggml's on the same rows, one thread each, in one run.

    pip install numpy gguf xllamacpp
    python3 bench/ggml_encoders.py build/bench_gguf_codec [TYPE ...]

Speeds are processor times of the fastest of several runs. Both outputs are decoded by the `gguf` package;
errors are (importance-weighted) sums of squares.
"""
import ctypes
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import xllamacpp
from gguf import GGMLQuantizationType, quants

ROWS, COLS = 64, 4096
TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
         "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"]
NEED_IMPORTANCE = ("IQ2_XXS", "IQ2_XS")  # ggml refuses to encode these without


def load_ggml():
    library = next(pathlib.Path(xllamacpp.__file__).parent.glob("*.so"))
    ggml = ctypes.CDLL(str(library))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, integer, integer, integer, pointer]
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_init.argtypes = [ctypes.c_int]
    return ggml


def encode_ggml(ggml, type_, weights, importance):
    if importance is None and type_.name in NEED_IMPORTANCE:
        importance = numpy.ones(COLS, numpy.float32)
    block, size = quants.GGML_QUANT_SIZES[type_]
    blocks = numpy.zeros((ROWS, COLS // block * size), numpy.uint8)
    ggml.ggml_quantize_init(int(type_))
    seconds, spent = float("inf"), 0.0
    runs = 0
    while runs < 3 or (spent < 0.4 and runs < 50):
        start = time.thread_time()
        ggml.ggml_quantize_chunk(int(type_), weights.ctypes.data, blocks.ctypes.data, 0, ROWS, COLS,
                                 importance.ctypes.data if importance is not None else None)
        elapsed = time.thread_time() - start
        seconds, spent, runs = min(seconds, elapsed), spent + elapsed, runs + 1
    return blocks, seconds


def encode_strata(program, type_, weights, importance, folder):
    weights.tofile(folder / "rows.f32")
    command = [program, type_.name, str(COLS), str(folder / "rows.f32"), str(folder / "blocks.bin")]
    if importance is not None:
        importance.tofile(folder / "importance.f32")
        command.append(str(folder / "importance.f32"))
    seconds = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return numpy.fromfile(folder / "blocks.bin", numpy.uint8).reshape(ROWS, -1), seconds


def squared_error(type_, blocks, weights, importance):
    error = (quants.dequantize(blocks, type_).astype(numpy.float64) - weights) ** 2
    return float((error if importance is None else error * importance).sum())


def main():
    program, names = sys.argv[1], sys.argv[2:] or TYPES
    random = numpy.random.default_rng(1)
    rows = {
        "gaussian": random.standard_normal((ROWS, COLS), numpy.float32),
        "student-t4": random.standard_t(4, (ROWS, COLS)).astype(numpy.float32),
    }
    # Mean squared activations: log-normal over the columns, a few of them large.
    importance = numpy.exp(random.standard_normal(COLS)).astype(numpy.float32)
    ggml = load_ggml()
    print(f"{'type':7} {'rows':10} {'weighting':10} {'strata Mw/s':>11} {'ggml Mw/s':>9} {'ratio':>6} "
          f"{'strata error':>12} {'ggml error':>12} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            type_ = GGMLQuantizationType[name]
            for distribution, weights in rows.items():
                for weighting in (None, importance):
                    ours, our_time = encode_strata(program, type_, weights, weighting, pathlib.Path(folder))
                    theirs, their_time = encode_ggml(ggml, type_, weights, weighting)
                    our_error = squared_error(type_, ours, weights, weighting)
                    their_error = squared_error(type_, theirs, weights, weighting)
                    label = "none" if weighting is None else "importance"
                    print(f"{name:7} {distribution:10} {label:10} {weights.size / our_time * 1e-6:11.1f} "
                          f"{weights.size / their_time * 1e-6:9.1f} {their_time / our_time:6.2f} "
                          f"{our_error:12.4f} {their_error:12.4f} {our_error / their_error:6.3f}", flush=True)


if __name__ == "__main__":
    main()
