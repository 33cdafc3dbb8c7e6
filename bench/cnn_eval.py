#!/usr/bin/env python3
"""Time of `strata eval` beside onnxruntime's on the same images and threads.

    python3 bench/cnn_eval.py build/strata models/mobilenetv2-cifar10.onnx data/cifar10/test-300.bin --threads 1

The programs take turns; what is printed is the least processor time of each, reading the network included, in seconds.
"""
import argparse
import os
import subprocess
import sys
import time

# Runs one model over CIFAR-10's binary files, 16 images at a time as strata does.
RUNTIME = """
import sys
import numpy
import onnxruntime
model, images, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
pixels = numpy.fromfile(images, numpy.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)
mean = numpy.array([0.4914, 0.4822, 0.4465], numpy.float32).reshape(1, 3, 1, 1)
deviation = numpy.array([0.247, 0.2435, 0.2616], numpy.float32).reshape(1, 3, 1, 1)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
for first in range(0, len(pixels), 16):
    session.run(None, {name: (pixels[first:first + 16].astype(numpy.float32) / 255 - mean) / deviation})
"""


def processor_time(command):
    before = os.times()
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return used, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strata")
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    threads = str(options.threads)
    commands = {
        "strata": [options.strata, "eval", options.model, "--images", options.images, "--threads", threads],
        "onnxruntime": [sys.executable, "-c", RUNTIME, options.model, options.images, threads],
    }
    best = {}
    for _ in range(options.runs):
        for name, command in commands.items():
            best[name] = min(best.get(name, (1e9, 1e9)), processor_time(command))
    for name, (used, elapsed) in best.items():
        print(f"{name:12} {used:7.2f} s of processor time, {elapsed:7.2f} s elapsed")
    print(f"{best['strata'][0] / best['onnxruntime'][0]:.2f} times onnxruntime's")


main()
