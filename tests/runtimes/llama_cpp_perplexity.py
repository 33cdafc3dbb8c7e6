"""llama.cpp's perplexity of the mixed file is within 1 % of strata's own of the same weights, dequantized.
(llama.cpp rounds activations to 8 bits.) The first windows of two texts; all of both with WINDOWS, such as 1000.

Usage: llama_cpp_perplexity.py RUNTIME_TOOL FILES SOURCE [WINDOWS]
"""

import subprocess
import sys

import llama_cpp

WINDOWS = {"data/books/the-man-who-was-thursday.txt": 6, "data/wikitext-2/wiki.test.raw": 3}  # of 512 tokens


def main(tool, files, source, windows_of_all=None):
    model = llama_cpp.Model(f"{files}/mixed.gguf")
    for text, windows in WINDOWS.items():
        windows = int(windows_of_all or windows)
        with open(f"{source}/{text}", encoding="utf-8", newline="") as stream:
            theirs, tokens = model.perplexity(model.tokenize(stream.read()), windows)
        for reader in ("mixed.gguf", "mixed"):
            output = subprocess.run(
                [tool, "perplexity", f"{files}/{reader}", f"{source}/{text}", str(windows)],
                check=True, stdout=subprocess.PIPE, text=True,
            ).stdout
            ours = float(output)
            ratio = theirs / ours
            print(f"{text}, {tokens} tokens: llama.cpp {theirs:.4f}, strata on {reader} {ours:.4f}, ratio {ratio:.5f}")
            if not abs(ratio - 1) < 0.01:
                sys.exit("the perplexities differ by 1 % or more")
    model.close()


main(*sys.argv[1:])
