"""llama.cpp gives the ids of the tokenizers' own libraries for difficult texts, from GGUF files that strata wrote.

Usage: llama_cpp_tokenizers.py RUNTIME_TOOL FILES SOURCE
"""

import json
import subprocess
import sys

import llama_cpp


def main(tool, files, source):
    output = subprocess.run([tool, "tokenizers", files], check=True, stdout=subprocess.PIPE, text=True).stdout
    with open(f"{source}/tests/data/tokenizer/expected.json") as stream:
        expected = json.load(stream)
    for name in output.split():
        # A unigram model that replaces characters before has none for a new line.
        model = llama_cpp.Model(f"{files}/tokenizer-{name}.gguf", tolerated="missing newline token")
        texts = [entry for entry in expected[name] if "\0" not in entry["text"]]
        for entry in texts:
            found = model.tokenize(entry["text"]).tolist()
            if found != entry["ids"]:
                sys.exit(f"{name}: {entry['text']!r} becomes {found} in llama.cpp, expected {entry['ids']}")
        print(f"{name}: {len(texts)} texts, equal ids")
        model.close()


main(*sys.argv[1:])
