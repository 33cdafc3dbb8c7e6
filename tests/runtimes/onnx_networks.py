"""onnxruntime makes of quantized networks that people ship what strata says: onnx_networks.py STRATA FOLDER SOURCE

models/fetch-onnx-networks puts the networks into SOURCE/models/onnx. Their inputs are enlarged pictures of CIFAR-10, of
which half calibrate and half measure."""
import json
import os
import subprocess
import sys

import numpy as np

try:
    import onnxruntime
except ImportError:
    print("skipped: onnxruntime is not installed")
    sys.exit(77)

# Height and width of what goes in, and how many pictures: many where two numbers an image are all that comes out.
SIZES = {"nudenet-320n": (320, 320, 20), "ppocrv4-detector": (160, 160, 20), "ppocrv4-recognizer": (48, 320, 20),
         "ppocr-classifier": (48, 192, 300)}
AUDIBLE = 10  # decibels below which noise is as large as what it hides, and a rounding changes it at will

strata, folder, source = sys.argv[1:4]
networks = {name: os.path.join(source, "models/onnx", name + ".onnx") for name in SIZES}
networks = {name: path for name, path in networks.items() if os.path.exists(path)}
if not networks:
    print("skipped: models/onnx is not there; models/fetch-onnx-networks puts it there")
    sys.exit(77)
os.makedirs(folder, exist_ok=True)
raw = np.fromfile(os.path.join(source, "data/cifar10/test-300.bin"), dtype=np.uint8).reshape(-1, 3073)[:, 1:]
pictures = raw.reshape(-1, 3, 32, 32).astype(np.float32) / 255
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def run(path, inputs):
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [session.run(None, {name: inputs[i:i + 1]})[0] for i in range(len(inputs))]
    return np.concatenate(outputs).astype(np.float64)


failures = []
for name, model in networks.items():
    height, width, count = SIZES[name]
    inputs = pictures[:count].repeat(-(-height // 32), axis=2).repeat(width // 32, axis=3)[:, :, :height]
    inputs = np.ascontiguousarray(inputs)
    images, quantized = os.path.join(folder, name + ".npy"), os.path.join(folder, name + ".onnx")
    np.save(images, inputs)
    for compression in ("4x", "6x"):
        found = subprocess.run([strata, "quantize", model, "--images", images, "--method", "weight-error", "--compression",
                                compression, "--json", "--quiet", "-o", quantized],
                               check=True, capture_output=True, text=True)
        ours = json.loads(found.stdout)["written"]["sqnr"]
        measured = inputs[count // 2:]
        reference, other = run(model, measured), run(quantized, measured)
        theirs = 10 * np.log10((reference ** 2).sum() / ((reference - other) ** 2).sum())
        print(f"{name} at {compression}: SQNR {ours:.2f} dB, in onnxruntime {theirs:.2f} dB")
        if max(ours, theirs) > AUDIBLE and abs(ours - theirs) > 1:
            failures.append(f"{name} at {compression}")
assert not failures, failures
