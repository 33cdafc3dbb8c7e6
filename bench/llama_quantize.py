"""strata beside llama-quantize: each of its mixes, and strata's plans of the same file size.

    pip install numpy gguf llama-cpp-py-sync
    python3 bench/llama_quantize.py build/strata build/libc23_names.so MODEL --text TEXT [TEXT...] [--calib TEXT]
                                    [--types Q2_K,Q3_K_M,...] [--efforts quick,standard,best] [--tokens N]
                                    [--device cuda]

For every type: llama_model_quantize without and with the importance matrix that strata measured on the calibration
text; strata's efforts at the same size: quick, which looks at weights alone, standard and best, which read that text;
and costs measured as KL divergence on it with the weights rounded by the importance, embedding and output matrix in
llama-quantize's types, so that only the matrices of the layers differ. Without --calib there are the rows that take no
text: llama-quantize without importance, and quick. All files are read back and measured by `strata eval`.
"""
import argparse
import os
import pathlib
import sys
import tempfile

import gguf
import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests/runtimes"))
from llama_quantizer import Quantizer  # noqa: E402

from strata_program import run  # noqa: E402


def read_importance(path):
    """Mean squares of the inputs of every matrix, by its name in the GGUF."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    ending = ".in_sum2"
    return {name.removesuffix(ending): numpy.ascontiguousarray(
                (squares / tensors[name.removesuffix(ending) + ".counts"]).reshape(-1).astype(numpy.float32))
            for name, squares in tensors.items() if name.endswith(ending)}


def row(options, asked, maker, path):
    cells = [asked, maker, f"{os.path.getsize(path)}"]
    for text in options.text:
        found = run(options, "eval", path, "--reference", options.model, "--text", text, "--tokens", options.tokens)
        cells += [f"{found['ppl']:.3f}", f"{found['kld']:.4f}", f"{100 * found['top1']:.2f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ("strata", "c23_names", "model"):
        parser.add_argument(name)
    parser.add_argument("--calib")
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--types", default="Q2_K,Q3_K_S,Q3_K_M,Q4_K_S,Q4_K_M,Q5_K_M")
    parser.add_argument("--efforts", default=None, help="quick,standard,best; quick without --calib")
    parser.add_argument("--tokens", default="0")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--schemes", default="gguf")
    options = parser.parse_args()
    texts = [os.path.basename(text) for text in options.text]
    print("| size of | made by | bytes | " + " | ".join(f"PPL {text} | KLD | top-1 %" for text in texts) + " |\n"
          "|---|---|---:|" + "---:|" * 3 * len(texts))
    with tempfile.TemporaryDirectory() as scratch:
        quantizer = Quantizer(options.c23_names, scratch)
        base, out, imatrix, scores = (f"{scratch}/{name}" for name in
                                      ("base.gguf", "out.gguf", "imatrix.gguf", "kl.json"))
        plain = "--effort quick --method uniform --bpw 32 --schemes F32 --embedding F32 --head F32 -o"
        run(options, "quantize", options.model, *plain.split(), base)
        makers, efforts = [("llama-quantize", None)], ["quick"]
        if options.calib:
            calibration, efforts = ["--calib", options.calib], ["quick", "standard", "best"]
            run(options, "score", options.model, "--method", "kl", *calibration, "--schemes", options.schemes,
                "--save-imatrix", imatrix, "-o", scores)
            makers.append(("llama-quantize, imatrix", read_importance(imatrix)))
        if options.efforts is not None:
            efforts = options.efforts.split(",") if options.efforts else []
        for asked in options.types.split(","):
            file_type = gguf.LlamaFileType[f"MOSTLY_{asked}"]
            for maker, matrix in makers:
                try:
                    quantizer.quantize(base, out, file_type, importance=matrix, threads=os.cpu_count() or 1)
                except RuntimeError:  # types of few bits want an importance matrix
                    continue
                row(options, asked, maker, out)
            types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(out).tensors}
            embedding = types["token_embd.weight"]
            same = ["--schemes", options.schemes, "--size", os.path.getsize(out), "-o", out]
            ends = ["--embedding", embedding, "--head", types.get("output.weight", embedding)]
            if options.calib:
                run(options, "quantize", options.model, *same, *ends, "--scores", scores, "--quantizer", "importance",
                    *calibration)
                row(options, asked, "strata, importance", out)
            for effort in efforts:
                text = [] if effort == "quick" else calibration
                run(options, "quantize", options.model, *same, "--effort", effort, *text)
                row(options, asked, f"strata, {effort}", out)


main()
