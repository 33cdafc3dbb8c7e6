"""onnxruntime computes what strata computes: the bundled network, and quantized files of it.

    onnx_runtime.py VISION_TOOL FOLDER SOURCE             the bundled network on its first images
    onnx_runtime.py VISION_TOOL FOLDER SOURCE MODEL IMAGES    any network, on all of a CIFAR binary file
"""
import os
import subprocess
import sys

import numpy as np

try:
    import onnxruntime
except ImportError:
    print("skipped: onnxruntime is not installed")
    sys.exit(77)

FEW = 80  # images that show what there is to show in a test
tool, folder, source = sys.argv[1:4]
model = sys.argv[4] if len(sys.argv) > 4 else os.path.join(source, "models/mobilenetv2-cifar10.onnx")
images = sys.argv[5] if len(sys.argv) > 5 else os.path.join(source, "data/cifar10/test-300.bin")
os.makedirs(folder, exist_ok=True)

raw = np.fromfile(images, dtype=np.uint8).reshape(-1, 3073)
if len(sys.argv) <= 4:
    raw = raw[:FEW]
images = os.path.join(folder, "images.bin")
raw.tofile(images)
labels = raw[:, 0]
pixels = raw[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255
mean = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(1, 3, 1, 1)
deviation = np.array([0.2470, 0.2435, 0.2616], np.float32).reshape(1, 3, 1, 1)
pixels = (pixels - mean) / deviation


def run(path, level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": pixels[i:i + 100]})[0] for i in range(0, len(pixels), 100)]
    return np.concatenate(parts)


def strata(command, *outputs):
    paths = [os.path.join(folder, name) for name in outputs]
    subprocess.run([tool, command, model, images, *paths], check=True)
    return np.fromfile(paths[-1], dtype=np.float32).reshape(len(pixels), -1), paths[0]


def top1(logits):
    return float((logits.argmax(1) == labels).mean())


ours, _ = strata("logits", "logits.bin")
theirs = run(model)
difference = float(np.abs(ours - theirs).max())
print(f"float: largest difference {difference:.2e}, top-1 {top1(ours):.4f} and {top1(theirs):.4f}")
assert difference < 1e-4 and top1(ours) == top1(theirs)

for command in ("quantize", "equalize"):
    ours, path = strata(command, command + ".onnx", command + ".bin")
    # Node by node: a rounding at the edge of a code moves single activations by one step.
    plain = run(path, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    fused = run(path)
    print(f"{command}: top-1 {top1(ours):.4f}, onnxruntime {top1(plain):.4f}, with its integer kernels {top1(fused):.4f}; "
          f"mean difference {np.abs(ours - plain).mean():.4f} and {np.abs(ours - fused).mean():.4f} "
          f"of logits with deviation {ours.std():.2f}")
    allowed = 0.003 + 1e-9 if len(pixels) >= 1000 else 1.01 / len(pixels) + 0.003
    assert abs(top1(plain) - top1(ours)) <= allowed
    assert abs(top1(fused) - top1(ours)) <= allowed
    assert np.abs(ours - plain).mean() < 0.05 and np.abs(ours - fused).mean() < 0.1
