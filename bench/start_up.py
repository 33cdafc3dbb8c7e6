#!/usr/bin/env python3
"""Seconds that commands take which compute no tensors, beside one that loads LibTorch and does nothing else.

    python3 bench/start_up.py build/strata models/tiny-llama
"""
import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

RUNS = 11

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("strata")
parser.add_argument("model")
options = parser.parse_args()


def run(*arguments):
    subprocess.run([options.strata, *arguments], check=True, stdout=subprocess.DEVNULL)


def seconds(*arguments):
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


with tempfile.TemporaryDirectory() as folder:
    scores = str(Path(folder) / "scores.json")
    run("score", options.model, "--method", "weight-error", "--schemes", "gguf", "--quiet", "-o", scores)
    commands = {
        "--version": ["--version"],
        "inspect": ["inspect", options.model],
        "allocate": ["allocate", scores, "--bpw", "3", "-o", str(Path(folder) / "plan.json")],
        "--help": ["--help"],  # of all commands: from strata-tensors
    }
    print(f"{'':<10} {'median s':>8} {'least s':>8}")
    for name, arguments in commands.items():
        times = [seconds(*arguments) for _ in range(RUNS)]
        print(f"{name:<10} {statistics.median(times):8.3f} {min(times):8.3f}")
