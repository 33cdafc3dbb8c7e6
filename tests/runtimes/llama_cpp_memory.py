"""What `strata frontier --fit` keeps free for llama.cpp is what llama.cpp says that it takes.

Usage: llama_cpp_memory.py STRATA FILES SOURCE
"""

import json
import re
import subprocess
import sys

import llama_cpp
import numpy as np

MIB = 1024 * 1024


def main(strata, files, source):
    model = llama_cpp.Model(f"{files}/mixed.gguf")
    model.logits(np.arange(10, 20, dtype=np.int32))
    log = model.log
    model.close()
    context = int(re.search(r"n_ctx_seq\s*=\s*(\d+)", log)[1])
    cache = float(re.search(r"KV buffer size =\s*([0-9.]+) MiB", log)[1])
    buffers = float(re.search(r"compute buffer size =\s*([0-9.]+) MiB", log)[1])
    scores = f"{files}/scores-for-memory.json"
    subprocess.run([strata, "score", f"{source}/models/tiny-llama", "--method", "prior", "--schemes", "gguf", "--quiet", "-o",
                    scores], check=True, stdout=subprocess.DEVNULL)
    found = subprocess.run([strata, "frontier", scores, "--model", f"{source}/models/tiny-llama", "--fit", "1GiB", "--context",
                            str(context), "--json"], check=True, capture_output=True, text=True)
    fit = json.loads(found.stdout)["fit"]
    if abs(fit["cache"] / MIB - cache) > 0.005:
        sys.exit(f"keys and values: {fit['cache'] / MIB:.2f} MiB of strata, {cache:.2f} MiB of llama.cpp")
    if not 0.95 * buffers < fit["buffers"] / MIB < 1.1 * buffers:
        sys.exit(f"buffers: {fit['buffers'] / MIB:.2f} MiB of strata, {buffers:.2f} MiB of llama.cpp")
    print(f"context {context}: keys and values {cache} MiB, buffers {fit['buffers'] / MIB:.2f} beside {buffers} MiB")


main(*sys.argv[1:])
