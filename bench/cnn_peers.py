#!/usr/bin/env python3
"""strata beside other quantizers of ONNX classifiers: the same images, every file run by onnxruntime.

    python3 bench/cnn_peers.py build/strata models/mobilenetv2-cifar10.onnx IMAGES.bin --calibration 512

IMAGES.bin is in CIFAR-10's binary form; the first images calibrate, the others measure. Peers are those that can be
imported: onnxruntime's quantize_static (QDQ, weights per channel) with each of its ways to find ranges, and NNCF's
post-training quantization. They make 8 bits for everything; strata's rows below are at the budgets of --compression, as
packed bits of all weights and scales, which onnxruntime's 8-bit files take at 4x. Prints a Markdown table.
"""
import argparse
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime

MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(1, 3, 1, 1)
DEVIATION = np.array([0.2470, 0.2435, 0.2616], np.float32).reshape(1, 3, 1, 1)
BATCH = 16


def read_images(path):
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255
    return (pixels - MEAN) / DEVIATION, records[:, 0].astype(np.int64)


def run(model, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: images[i:i + BATCH]})[0] for i in range(0, len(images), BATCH)])


def onnxruntime_static(method):
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, name, images):
            self.batches = ({name: images[i:i + BATCH]} for i in range(0, len(images), BATCH))

        def get_next(self):
            return next(self.batches, None)

    def make(model, images, out):
        name = onnx.load(model).graph.input[0].name
        quantization.quantize_static(str(model), str(out), Reader(name, images), per_channel=True,
                                     calibrate_method=getattr(quantization.CalibrationMethod, method))
    return make


def nncf_ptq(model, images, out):
    import nncf
    name = onnx.load(model).graph.input[0].name
    data = nncf.Dataset([images[i:i + 1] for i in range(len(images))], lambda image: {name: image})
    onnx.save(nncf.quantize(onnx.load(model), data, subset_size=len(images)), out)


def strata(program, images, count, *arguments):
    def make(model, _, out):
        subprocess.run([program, "quantize", str(model), "--images", images, "--calibration-images", str(count), "-o",
                        str(out), *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return make


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strata")
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--compression", default="4,8", help="strata's budgets")
    parser.add_argument("--methods", default="uniform", help="strata's methods")
    options = parser.parse_args()
    images, labels = read_images(options.images)
    calibration, held, labels = images[:options.calibration], images[options.calibration:], labels[options.calibration:]
    reference = run(options.model, held)

    rows = {f"onnxruntime quantize_static, {method}": onnxruntime_static(method)
            for method in ("MinMax", "Entropy", "Percentile")}
    rows["NNCF quantize"] = nncf_ptq
    for compression in options.compression.split(","):
        for method in options.methods.split(","):
            for rounding in ("nearest", "adaround"):
                rows[f"strata {method} {compression}x, {rounding}"] = strata(
                    options.strata, options.images, options.calibration, "--method", method, "--compression",
                    compression + "x", "--weight-rounding", rounding)
    print("| made by | file bytes | top-1 % | SQNR dB | seconds |\n|---|---:|---:|---:|---:|")
    print(f"| float32 | {pathlib.Path(options.model).stat().st_size} | "
          f"{100 * np.mean(reference.argmax(1) == labels):.2f} | | |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, make in rows.items():
            out = pathlib.Path(folder) / "quantized.onnx"
            start = time.monotonic()
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    make(options.model, calibration, out)
            except Exception as error:  # a peer that is missing or fails is named, and the others go on
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            seconds = time.monotonic() - start
            logits = run(out, held)
            noise = np.sum((logits - reference).astype(np.float64) ** 2)
            decibels = 10 * np.log10(np.sum(reference.astype(np.float64) ** 2) / noise)
            print(f"| {name} | {out.stat().st_size} | {100 * np.mean(logits.argmax(1) == labels):.2f} | {decibels:.2f} | "
                  f"{seconds:.0f} |", flush=True)


main()
