"""Directories in compressed-tensors, GPTQ and MLX form hold what strata reads from them: taken apart by numpy as
their definitions say, and by MLX itself where it is installed.

Usage: packed_directories.py RUNTIME_TOOL FILES SOURCE
"""

import json
import re
import struct
import subprocess
import sys

import numpy as np

try:
    import mlx.core as mx
except ImportError:
    mx = None

DTYPES = {"F16": np.float16, "F32": np.float32, "I32": np.uint32, "U32": np.uint32, "I64": np.int64}


def read_safetensors(path):
    data = open(path, "rb").read()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def stream(words, bits, count):
    """Codes of a row of words: bits [i b, (i + 1) b) counted from the least significant bit."""
    row = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    row = row[..., : count * bits].reshape(*row.shape[:-1], count, bits)
    return (row << np.arange(bits, dtype=np.uint8)).sum(-1, dtype=np.int64)


def compressed_tensors(tensors, config, stem):
    weights = next(
        group["weights"] for group in config["quantization_config"]["config_groups"].values()
        if any(re.match(target[3:], stem) for target in group["targets"])
    )
    bits = weights["num_bits"]
    rows, cols = (int(n) for n in tensors[stem + ".weight_shape"])
    q = stream(tensors[stem + ".weight_packed"], bits, cols) - 2 ** (bits - 1)
    scale = tensors[stem + ".weight_scale"].astype(np.float32)
    zero = np.zeros(scale.shape, np.int64)
    if not weights["symmetric"]:
        zero = stream(tensors[stem + ".weight_zero_point"].T, bits, rows).T - 2 ** (bits - 1)
    spread = lambda parameter: np.repeat(parameter, cols // parameter.shape[1], axis=1)
    return (q - spread(zero)) * spread(scale)


def gptq(tensors, config, stem):
    config = config["quantization_config"]
    settings = dict(config)
    for rule, own in config.get("dynamic", {}).items():
        if re.match(rule[2:], stem):
            settings.update(own)
            break
    bits = settings["bits"]
    packed = tensors[stem + ".qweight"]
    cols, rows = packed.shape[0] * 32 // bits, packed.shape[1]
    q = stream(packed.T, bits, cols)
    zero = stream(tensors[stem + ".qzeros"], bits, rows) + (config["checkpoint_format"] == "gptq")
    groups = tensors[stem + ".g_idx"].astype(np.int64)
    return ((q.T - zero[groups]) * tensors[stem + ".scales"].astype(np.float32)[groups]).T


def mlx(tensors, config, stem):
    settings = {**config["quantization"], **config["quantization"].get(stem, {})}
    weight, scales, biases = (tensors[stem + part] for part in (".weight", ".scales", ".biases"))
    bits, size = settings["bits"], settings["group_size"]
    q = stream(weight, bits, scales.shape[1] * size)
    spread = lambda parameter: np.repeat(parameter.astype(np.float32), size, axis=1)
    values = q * spread(scales) + spread(biases)
    if mx is not None:
        theirs = mx.dequantize(mx.array(weight), mx.array(scales), mx.array(biases), group_size=size, bits=bits)
        difference = np.abs(np.array(theirs).astype(np.float32) - values).max()
        # In fp16 its own rounding counts.
        assert difference <= 2e-3 * np.abs(values).max(), f"MLX reads {stem} otherwise, by {difference}"
    return values


READERS = {"compressed-tensors": (compressed_tensors, ".weight_packed"), "gptq": (gptq, ".qweight"),
           "gptq_v2": (gptq, ".qweight"), "mlx": (mlx, ".scales")}


def main(tool, files, _):
    for name, (reader, ending) in READERS.items():
        folder = f"{files}/{name}"
        subprocess.run([tool, "decode", folder, f"{files}/decoded.f32"], check=True)
        ours = np.fromfile(f"{files}/decoded.f32", np.float32)
        tensors, config = read_safetensors(f"{folder}/model.safetensors"), json.load(open(f"{folder}/config.json"))
        position, checked, largest = 0, 0, 0.0
        for line in open(f"{files}/decoded.f32.names"):
            stem, size = line.split()
            part = ours[position : position + int(size)]
            position += int(size)
            if stem + ending not in tensors:
                continue
            theirs = reader(tensors, config, stem).reshape(-1)
            difference = float(np.abs(part - theirs).max())
            if not difference <= 1e-6 * np.abs(theirs).max():
                sys.exit(f"{name}: {stem} differs by {difference}")
            largest, checked = max(largest, difference), checked + 1
        if checked < 100 or position != ours.size:
            sys.exit(f"{name}: {checked} matrices compared, which is too few")
        print(f"{name}: {checked} matrices, largest difference {largest}")
    print("MLX itself read its directory" if mx else "MLX is not installed: only its definition was tried")


main(*sys.argv[1:])
