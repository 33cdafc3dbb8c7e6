"""llama.cpp tokenizes the two bundled texts to the same ids as strata.

Usage: llama_cpp_tokens.py RUNTIME_TOOL FILES SOURCE
"""

import subprocess
import sys

import llama_cpp
import numpy as np

TEXTS = ["data/wikitext-2/wiki.test.raw", "data/books/the-man-who-was-thursday.txt"]


def main(tool, files, source):
    model = llama_cpp.Model(f"{files}/mixed.gguf")
    for text in TEXTS:
        with open(f"{source}/{text}", encoding="utf-8", newline="") as stream:
            theirs = model.tokenize(stream.read())
        for reader in (f"{source}/models/tiny-llama", f"{files}/mixed.gguf", f"{files}/mixed"):
            subprocess.run([tool, "tokens", reader, f"{source}/{text}", f"{files}/ids.i32"], check=True)
            ours = np.fromfile(f"{files}/ids.i32", np.int32)
            if not np.array_equal(ours, theirs):
                same = min(len(ours), len(theirs))
                first = next((i for i in range(same) if ours[i] != theirs[i]), same)
                sys.exit(
                    f"{text}: {len(ours)} ids of strata from {reader}, {len(theirs)} of llama.cpp; "
                    f"first difference at {first}"
                )
        print(f"{text}: {len(theirs)} ids, equal")
    model.close()


main(*sys.argv[1:])
