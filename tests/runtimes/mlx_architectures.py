"""mlx-lm computes the same logits as strata from MLX directories of small random models of nearly every architecture.

Usage: mlx_architectures.py RUNTIME_TOOL FILES SOURCE
"""

import json
import pathlib
import subprocess
import sys

import numpy as np

try:
    import mlx.core as mx
    from mlx_lm.utils import load_model
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


def as_published(path):
    """config.json with the keys that mlx-lm looks for, as checkpoints have them that transformers 4 has written."""
    config = json.loads(path.read_text())
    rope = config.get("rope_parameters", {})
    whole = rope.get("full_attention", rope)
    config.setdefault("rope_theta", whole.get("rope_theta"))
    if config["rope_theta"] is None:
        config["rope_theta"] = whole.get("rope_theta")
    config.setdefault("partial_rotary_factor", whole.get("partial_rotary_factor", 1.0))
    kind = whole.get("rope_type", "default")
    config.setdefault("rope_scaling", None if kind == "default" else {**whole, "type": kind})
    if "num_local_experts" in config:
        config.setdefault("num_experts", config["num_local_experts"])
    if "sliding_attention" in rope:
        config.setdefault("rope_local_base_freq", rope["sliding_attention"]["rope_theta"])
    for layer in config.get("per_layer_config", {}).values():
        config.setdefault("global_head_dim", layer["head_dim"])
        if "num_key_value_heads" in layer:
            config.setdefault("num_global_key_value_heads", layer["num_key_value_heads"])
    if config["model_type"] == "exaone4" and config["sliding_window"]:
        config["sliding_window_pattern"] = "".join("L" if kind.startswith("sliding") else "G" for kind in config["layer_types"])
    if config["model_type"] == "lfm2":
        config.setdefault("block_dim", config["hidden_size"])
    if config["model_type"].startswith("qwen3_5"):
        config["full_attention_interval"] = config["layer_types"].index("full_attention") + 1
        config = dict(model_type=config["model_type"].removesuffix("_text"), text_config=config, quantization=config["quantization"])
    path.write_text(json.dumps(config))
    return config


def main(tool, files, _):
    mx.set_default_device(mx.cpu)
    output = subprocess.run([tool, "mlx-architectures", files], check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in output.split():
        directory = pathlib.Path(files) / f"mlx-{name}"
        config = as_published(directory / "config.json")
        model, _ = load_model(directory)
        model.set_dtype(mx.float32)
        theirs = np.array(model(mx.arange(1, 97)[None])[0])
        ours = np.fromfile(f"{files}/mlx-{name}.f32", np.float32).reshape(theirs.shape)
        # Some of its models slide with a cache alone.
        seen = config.get("sliding_window") or len(ours)
        ours, theirs = ours[:seen], theirs[:seen]
        difference = np.sqrt(np.mean((ours - theirs) ** 2)) / theirs.std()
        print(f"{name}: difference of the logits {difference:.2e} of their standard deviation")
        # It adds 1 to gains of Qwen 3.5 in 16 bits.
        if not difference < (0.005 if config["model_type"].startswith("qwen3_5") else 0.001):
            sys.exit(f"{name}: the logits differ")


main(*sys.argv[1:])
