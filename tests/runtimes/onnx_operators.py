"""onnxruntime computes what strata computes, operator by operator: onnx_operators.py VISION_TOOL FOLDER"""
import glob
import os
import shutil
import subprocess
import sys

import numpy as np

try:
    import onnxruntime
except ImportError:
    print("skipped: onnxruntime is not installed")
    sys.exit(77)

tool, folder = sys.argv[1:3]
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
subprocess.run([tool, "operators", folder], check=True)
images = np.fromfile(os.path.join(folder, "images.bin"), dtype=np.float32).reshape(3, 4, 7, 6)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
# As it stands: fusions are the networks' test.
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
options.log_severity_level = 4
types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
models = sorted(glob.glob(os.path.join(folder, "*.onnx")))


def run(path):
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    given = images.astype(types[taken.type])
    output = session.get_outputs()[0].name
    size = taken.shape[0] if isinstance(taken.shape[0], int) else len(given)
    parts = [session.run([output], {"image": given[i:i + size]})[0] for i in range(0, len(given), size)]
    return (np.concatenate(parts) if len(parts) > 1 else parts[0]).astype(np.float32)


failures = []
for path in models:
    name = os.path.basename(path)[:-5]
    if name == "network_doubles":  # which onnxruntime has no convolution for; the quantized ones are float32
        continue
    with open(path[:-5] + ".shape") as file:
        shape = [int(size) for size in file.read().split()]
    ours = np.fromfile(path[:-5] + ".bin", dtype=np.float32).reshape(shape)
    try:
        theirs = run(path)
    except Exception as error:  # pylint: disable=broad-except
        failures.append(f"{name}: {str(error).splitlines()[0]}")
        continue
    # Halves round otherwise where they are computed in.
    # Of quantized models single codes of activations may fall to the other side.
    close = 5e-3 if "halves" in name else 1e-4
    if ours.shape != theirs.shape:
        failures.append(f"{name}: {ours.shape}, onnxruntime {theirs.shape}")
    elif np.mean(~np.isclose(ours, theirs, rtol=close, atol=close / 10)) > (0.02 if ".bits" in name else 0):
        failures.append(f"{name}: largest difference {np.abs(ours - theirs).max():.2e}")
print(f"{len(models)} cases, {len(failures)} differ")
print("\n".join(failures))
assert len(models) > 1100 and not failures
