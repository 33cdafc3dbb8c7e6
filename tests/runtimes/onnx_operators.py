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
models = sorted(glob.glob(os.path.join(folder, "*.onnx")))
failures = []
for path in models:
    name = os.path.basename(path)[:-5]
    with open(path[:-5] + ".shape") as file:
        shape = [int(size) for size in file.read().split()]
    ours = np.fromfile(path[:-5] + ".bin", dtype=np.float32).reshape(shape)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"image": images})[0]
    if ours.shape != theirs.shape:
        failures.append(f"{name}: {ours.shape}, onnxruntime {theirs.shape}")
    elif not np.allclose(ours, theirs, rtol=1e-5, atol=1e-5):
        failures.append(f"{name}: largest difference {np.abs(ours - theirs).max():.2e}")
print(f"{len(models)} cases, {len(failures)} differ")
print("\n".join(failures))
assert len(models) > 80 and not failures
