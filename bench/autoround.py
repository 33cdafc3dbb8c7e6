"""strata's effort `best` beside AutoRound: each of AutoRound's mixes, and strata's plan of the same stored bits.

    pip install torch transformers auto-round
    python3 bench/autoround.py build/strata MODEL --calib TEXT --text TEXT [TEXT...]
                               [--bpw 2.5,3.0,3.5] [--steps 200] [--windows 512] [--device cuda]

Both choose between asymmetric groups of 128 with 2, 3, 4, 5 or 6 bits, a scale of 16 bits and a zero point of the
codes' width; both calibrate on the same first windows of 512 tokens; embedding and head stay as they are. AutoRound
chooses by its AutoScheme and rounds with that many steps. The weights that it leaves are saved in single precision, and
all models are read back and measured by `strata eval`. Stored bits are counted from the widths that were chosen, scales
and zero points included; strata gets as many as AutoRound took.
"""
import argparse
import json
import pathlib
import tempfile
import time

import torch
import transformers
from auto_round import AutoRound, AutoScheme
from auto_round.schemes import QuantizationScheme

from strata_program import run

WIDTHS = (2, 3, 4, 5, 6)
GROUP = 128
WINDOW = 512


def row(options, asked, maker, bits, seconds, path):
    cells = [asked, maker, f"{bits:.4f}", f"{seconds:.0f}"]
    for text in options.text:
        found = run(options, "eval", path, "--reference", options.model, "--text", text)
        cells += [f"{found['ppl']:.3f}", f"{found['kld']:.4f}", f"{100 * found['top1']:.2f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def windows_of(text, tokenizer, count):
    """Texts of the first windows of a text, as AutoRound takes them."""
    ids = tokenizer(pathlib.Path(text).read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    whole = range(0, min(count * WINDOW, len(ids) - WINDOW + 1), WINDOW)
    return [tokenizer.decode(ids[first:first + WINDOW]) for first in whole]


def autoround(options, bits, texts, directory):
    """Writes AutoRound's weights; stored bits a weight."""
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    data = directory / "windows.json"
    data.write_text(json.dumps(texts))
    choices = tuple(QuantizationScheme(bits=b, group_size=GROUP, sym=False, data_type="int") for b in WIDTHS)
    # A window's text need not come back as just as many tokens: those that are a little shorter count too.
    rounder = AutoRound(model, tokenizer, scheme=AutoScheme(avg_bits=float(bits), options=choices),
                        iters=options.steps, dataset=str(data), nsamples=len(texts), seqlen=WINDOW - 64,
                        device_map=options.device)
    rounded, layers = rounder.quantize()
    stored = weights = 0
    for name, module in rounded.named_modules():
        width = layers.get(name, {}).get("bits")
        if not isinstance(module, torch.nn.Linear) or width is None or width > 8:
            continue
        rows, columns = module.weight.shape
        groups = -(-columns // GROUP)
        stored += rows * columns * width + rows * groups * (16 + width)
        weights += rows * columns
    rounded.float().save_pretrained(directory / "autoround")
    tokenizer.save_pretrained(directory / "autoround")
    return stored / weights


def main():
    parser = argparse.ArgumentParser()
    for name in ("strata", "model"):
        parser.add_argument(name)
    parser.add_argument("--calib", required=True)
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--bpw", default="2.5,3.0,3.5")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--windows", type=int, default=512)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()

    texts = windows_of(options.calib, transformers.AutoTokenizer.from_pretrained(options.model), options.windows)
    print("| asked | by | bpw | seconds |" + " PPL | KLD | top-1 |" * len(options.text))
    print("|---|---|---|---|" + "---|---|---|" * len(options.text), flush=True)
    for bits in options.bpw.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            directory = pathlib.Path(scratch)
            start = time.monotonic()
            stored = autoround(options, bits, texts, directory)
            row(options, bits, f"AutoRound, {options.steps} steps", stored, time.monotonic() - start,
                directory / "autoround")
            start = time.monotonic()
            made = run(options, "quantize", options.model, "--effort", "best", "--bpw", f"{stored:.6f}", "--format",
                       "strata", "--schemes", ",".join(f"w{b}g{GROUP}z" for b in WIDTHS), "--calib", options.calib,
                       "--calib-tokens", options.windows * WINDOW, "-o", directory / "strata")
            row(options, bits, "strata, best", made["plan"]["bits_per_weight"], time.monotonic() - start,
                directory / "strata")


if __name__ == "__main__":
    main()
