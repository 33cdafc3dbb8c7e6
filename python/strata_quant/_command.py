"""The command `strata`: becomes the native program beside this file."""

import importlib.util
import os
import sys


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")
    torch = importlib.util.find_spec("torch")  # which need not be where strata_quant is
    if torch is not None and torch.submodule_search_locations:
        libraries = os.path.join(list(torch.submodule_search_locations)[0], "lib")
        before = os.environ.get("LD_LIBRARY_PATH")
        os.environ["LD_LIBRARY_PATH"] = libraries + (os.pathsep + before if before else "")
    os.execv(os.path.join(folder, "strata"), ["strata", *sys.argv[1:]])
