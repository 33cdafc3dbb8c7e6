"""Figures beside a base of log probabilities are those that llama-perplexity would print: a base written here from
llama.cpp's own logits, statistics of another file's logits by the same definitions in double precision, and
`strata eval --kl-base`, which rounds as llama.cpp does. And a base that strata writes says what llama.cpp's logits say.

Usage: llama_cpp_kl_base.py STRATA FILES SOURCE
"""

import json
import subprocess
import sys

import llama_cpp
import numpy as np

WINDOW, WINDOWS = 512, 4


def log_softmax(logits):
    logits = logits.astype(np.float64)
    largest = logits.max(axis=1, keepdims=True)
    return logits - largest - np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))


def second_halves(path, source):
    """Tokens [windows, window], and log probabilities behind those of the second halves, but for the last."""
    model = llama_cpp.Model(path)
    with open(f"{source}/data/wikitext-2/wiki.test.raw", encoding="utf-8", newline="") as stream:
        ids = model.tokenize(stream.read())[: WINDOW * WINDOWS].reshape(WINDOWS, WINDOW)
    rows = [log_softmax(model.logits(window)[WINDOW // 2 : -1]) for window in ids]
    model.close()
    return ids, np.concatenate(rows)


def write_base(path, ids, rows):
    vocabulary = rows.shape[1]
    with open(path, "wb") as stream:
        stream.write(b"_logits_" + np.array([WINDOW, vocabulary, WINDOWS], np.int32).tobytes())
        stream.write(ids.astype(np.int32).tobytes())
        for row in rows:
            least = max(row.min(), row.max() - 16)
            scale = (row.max() - least) / 65535
            codes = np.rint(np.maximum(row - least, 0) / scale).astype(np.uint16)
            stream.write(np.array([scale, least], np.float32).tobytes() + np.pad(codes, (0, vocabulary % 2)).tobytes())


def read_base(path, vocabulary):
    """Log probabilities of a base file."""
    data = open(path, "rb").read()[20 + 4 * WINDOW * WINDOWS :]
    dtype = np.dtype([("scale", np.float32), ("least", np.float32), ("codes", np.uint16, vocabulary + vocabulary % 2)])
    rows = np.frombuffer(data, dtype)
    return rows["scale"][:, None] * rows["codes"][:, :vocabulary] + rows["least"][:, None]


def main(strata, files, source):
    run = lambda *arguments: subprocess.run([strata, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    eight_bits, mixed, base = f"{files}/eight-bits.gguf", f"{files}/mixed.gguf", f"{files}/kl-base.bin"
    run("quantize", f"{source}/models/tiny-llama", "--method", "uniform", "--effort", "quick", "--schemes", "Q8_0",
        "--bpw", "8.5", "--embedding", "Q8_0", "--quiet", "-o", eight_bits)
    ids, p = second_halves(eight_bits, source)
    _, q = second_halves(mixed, source)
    write_base(base, ids, p)
    found = json.loads(run("eval", mixed, "--kl-base", base, "--runtime", "llama.cpp", "--json"))

    at = np.arange(len(p))
    following = ids[:, WINDOW // 2 + 1 :].reshape(-1)
    change = np.exp(q[at, following]) - np.exp(p[at, following])
    expected = {
        "ppl": (np.exp(-q[at, following].mean()), 2e-3),
        "base_ppl": (np.exp(-p[at, following].mean()), 1e-4),
        "kld": ((np.exp(p) * (p - q)).sum(axis=1).mean(), 1e-2),
        "rms_probability_change": (np.sqrt((change**2).mean()), 1e-2),
        "same_top": ((p.argmax(axis=1) == q.argmax(axis=1)).mean(), 5e-3),
    }
    assert found["tokens"] == len(p), found["tokens"]
    for name, (value, tolerance) in expected.items():
        ours = found[name]["value"]
        print(f"{name}: llama.cpp {value:.6f}, strata {ours:.6f}")
        if not abs(ours / value - 1) < tolerance:
            sys.exit(f"{name} differs by {100 * tolerance} % or more")

    text = f"{source}/data/wikitext-2/wiki.test.raw"
    run("eval", eight_bits, "--text", text, "--tokens", str(WINDOW * WINDOWS), "--runtime", "llama.cpp",
        "--save-kl-base", f"{files}/own.bin", "--quiet")
    assert open(f"{files}/own.bin", "rb").read(20) == open(base, "rb").read(20)
    assert np.array_equal(np.fromfile(f"{files}/own.bin", np.int32, ids.size, offset=20), ids.reshape(-1))
    distance = (np.exp(p) * (p - read_base(f"{files}/own.bin", p.shape[1]))).sum(axis=1).mean()
    print(f"a base that strata wrote: KL divergence {distance:.2e} from llama.cpp's logits")
    if not abs(distance) < 2e-3:
        sys.exit("the base that strata wrote is not llama.cpp's")


main(*sys.argv[1:])
