"""gguf.GGUFReader sees the tensors that strata does in every GGUF file of the runtime tests, and strata no fault.

Usage: gguf_agreement.py GGUF_TOOL FILES SOURCE
"""

import json
import pathlib
import subprocess
import sys

import gguf


def main(tool, folder, _):
    files = sorted(pathlib.Path(folder).glob("**/*.gguf"))
    output = subprocess.run([tool, *files], check=True, stdout=subprocess.PIPE, text=True).stdout
    tensors = 0
    for file, line in zip(files, output.splitlines(), strict=True):
        ours = json.loads(line)
        if ours["faults"]:
            sys.exit(f"{file}: {ours['faults']}")
        theirs = [
            [tensor.name, tensor.tensor_type.name, [int(n) for n in reversed(tensor.shape)], int(tensor.n_bytes)]
            for tensor in gguf.GGUFReader(file).tensors
        ]
        if ours["tensors"] != theirs:
            differing = [pair for pair in zip(ours["tensors"], theirs) if pair[0] != pair[1]]
            sys.exit(f"{file}: {len(ours['tensors'])} and {len(theirs)} tensors, of which differ: {differing[:3]}")
        tensors += len(theirs)
    print(f"{len(files)} files with {tensors} tensors: no fault, and the same names, types, shapes and sizes")
    if not files:
        sys.exit("no GGUF file was found")


main(*sys.argv[1:])
