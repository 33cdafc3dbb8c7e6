"""Every format at about 2.6, 3.2 and 4.5 bits a weight (or the nearest it can hold) in its runtimes: the same most
probable next token as strata's own forward pass on the same file, and its perplexity.

    python3 tests/runtimes/agreement.py STRATA RUNTIME_TOOL MODEL TEXT [--windows 8] [--formats gguf,mlx,...]
                                        [--device cpu|cuda] [--budgets 2.6,3.2,4.5] [--method uniform:exact]

8 windows of 512 tokens are 4,096. A runtime that keeps float32 activations must name the same token in 99.5 % of places
and reach the same perplexity within 0.1 %; one that rounds them, 97 % and 1 %, or as many places as strata itself has
in common with and without that rounding (strata eval --runtime), less three standard errors. What is not installed is
said to be not run. The model is an unquantized Hugging Face directory or a GGUF. See docs/runtimes.md.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

import forward_passes
import numpy as np

WINDOW = 512


# Where not the format's own. After a colon: a part of a format that a runtime is limited to.
SCHEMES = {
    "gguf": "gguf,IQ2_S,IQ3_XXS",
    "compressed-tensors:symmetric": ",".join(f"w{bits}g64s" for bits in (2, 3, 4, 5, 6, 8)),
    "compressed-tensors:4-bit": "w4g64s,w4g64z,w4g32s,w4g32z",
    "gptq:4-bit": "w4g64s,w4g32s",
}


def quantize(options, format_, budget, path):
    """Writes the file at the budget, or the nearest that the format can hold; the bits a weight it came to."""
    command = [options.strata, "quantize", options.model, "--effort", "quick", "--method", options.method, "--quiet", "--json", "-o", path,
               "--format", format_.split(":")[0]]
    if format_ in SCHEMES:
        command += ["--schemes", SCHEMES[format_]]
    result = subprocess.run([*command, "--bpw", str(budget)], capture_output=True, text=True)
    for end, step in (("smallest", 1e-4), ("largest", -1e-4)):
        bound = re.search(rf"{end} possible .* ([0-9.]+) bpw; (raise|lower) it", result.stderr)
        if bound:
            result = subprocess.run([*command, "--bpw", str(float(bound[1]) + step)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(result.stderr)
    return json.loads(result.stdout)["plan"]["bits_per_weight"]


def own_predictions(options, path, scratch, rounding="none"):
    """Tokens [windows, 512], and strata's next tokens and losses [windows, 511]."""
    windows = options.windows
    subprocess.run([options.tool, "predictions", path, options.text, str(windows), f"{scratch}/ours", rounding],
                   check=True)
    tokens = np.fromfile(f"{scratch}/ours.tokens", np.int32).reshape(windows, WINDOW)
    raw = np.fromfile(f"{scratch}/ours", np.int32).reshape(windows, 2, WINDOW - 1)
    return tokens, raw[:, 0], raw[:, 1].copy().view(np.float32).astype(np.float64)


def row(format_, bits, name, outcome):
    print(f"| {format_} | {bits:.3f} | {name} | {outcome} |", flush=True)


def run_cell(options, format_, budget):
    """One format at one budget in all its runtimes; whether all agreed."""
    agreed = True
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/out.gguf" if format_ == "gguf" else f"{scratch}/out"
        bits = quantize(options, format_, budget, path)
        tokens, best, losses = own_predictions(options, path, scratch)
        own = np.exp(losses.mean())
        for kind in forward_passes.RUNTIMES[format_]:
            try:
                runtime = kind(path, options.device)
            except Exception as error:  # missing, or one that does not load the file: a cell that says so
                lines = str(error).strip().splitlines() or [""]
                row(format_, bits, kind.name, f"not run: {type(error).__name__}, {lines[0][:140]}")
                continue
            theirs_best, theirs_losses = map(np.array, zip(*map(runtime.predictions, tokens)))
            top1, theirs = (theirs_best == best).mean(), np.exp(theirs_losses.mean())
            least, spread = (0.995, 0.001) if runtime.keeps_floats else (0.97, 0.01)
            note = ""
            if not runtime.keeps_floats and runtime.rounding:
                _, rounded, _ = own_predictions(options, path, scratch, runtime.rounding)
                alone = (rounded == best).mean()
                least = min(least, alone - 3 * np.sqrt(alone * (1 - alone) / best.size))
                note = (f", {100 * alone:.2f} % by rounding alone, "
                        f"{100 * (theirs_best == rounded).mean():.2f} % rounded alike")
            ok = top1 >= least and abs(theirs / own - 1) <= spread
            agreed &= ok
            row(format_, bits, runtime.name, f"{100 * top1:.2f} % | {theirs:.4f} | {own:.4f} | "
                f"{100 * (theirs / own - 1):+.3f} % | {'ok' if ok else 'FAILED'}{note}")
            del runtime
    return agreed


def main():
    parser = argparse.ArgumentParser()
    for name in ("strata", "tool", "model", "text"):
        parser.add_argument(name)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--formats", default=",".join(forward_passes.RUNTIMES))
    parser.add_argument("--budgets", default="2.6,3.2,4.5")
    parser.add_argument("--method", default="uniform:exact")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling takes longer than these few windows
    print("| format | bits a weight | runtime | same top-1 | perplexity | strata's | difference | |\n"
          "|---|---|---|---|---|---|---|---|")
    agreed = [run_cell(options, format_, float(budget))
              for format_ in options.formats.split(",") for budget in options.budgets.split(",")]
    sys.exit(0 if all(agreed) else 1)


if __name__ == "__main__":  # vLLM's processes import this file
    main()
