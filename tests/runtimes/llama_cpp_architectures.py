"""llama.cpp computes the same logits as strata from small random models of every architecture, exported in
F32 and Q8_0. (llama.cpp keeps keys and values in fp16, and rounds the inputs of quantized matrices to 8 bits.)

Usage: llama_cpp_architectures.py RUNTIME_TOOL FILES SOURCE
"""

import subprocess
import sys

import llama_cpp
import numpy as np


def main(tool, files, _):
    output = subprocess.run([tool, "architectures", files], check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in output.split():
        ids = np.arange(1, 97)
        model = llama_cpp.Model(f"{files}/{name}.gguf")
        theirs = model.logits(ids).copy()
        ours = np.fromfile(f"{files}/{name}.f32", np.float32).reshape(theirs.shape)
        difference = np.sqrt(np.mean((ours - theirs) ** 2)) / theirs.std()
        print(f"{name}: difference of the logits {difference:.2e} of their standard deviation")
        if not difference < (0.1 if name.endswith(("-Q8_0", "-MXFP4")) else 0.005):
            sys.exit(f"{name}: the logits differ")
        model.close()


main(*sys.argv[1:])
