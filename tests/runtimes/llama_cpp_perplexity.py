"""llama.cpp's perplexity of the mixed file is within 1 % of strata's own of the same weights, dequantized.
(llama.cpp rounds activations to 8 bits.)

Usage: llama_cpp_perplexity.py RUNTIME_TOOL FILES SOURCE
"""

import subprocess
import sys

import llama_cpp

WINDOWS = {"data/books/the-man-who-was-thursday.txt": 40, "data/wikitext-2/wiki.test.raw": 10}


def main(tool, files, source):
    model = llama_cpp.Model(f"{files}/mixed.gguf")
    for text, windows in WINDOWS.items():
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
