"""What strata_quant has to offer; each function is a command of strata, and open() its models."""

import ctypes
import inspect as introspection
import math
import os
from typing import NamedTuple, Tuple

import numpy

from ._library import native, run

Error = native.Error
UsageError = native.UsageError
Error.__module__ = UsageError.__module__ = "strata_quant"

# Types of safetensors files that numpy has too; others (BF16 and packed ones) are read as float32.
_NUMPY_TYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "U32": "u4", "I16": "i2", "I8": "i1",
                "U8": "u1", "BOOL": "?"}


class Tensor(NamedTuple):
    """A tensor as it is stored: its type is that of the file, such as BF16 or Q4_K."""

    name: str
    type: str
    shape: Tuple[int, ...]
    bytes: int


class Module(NamedTuple):
    """A matrix of a layer, which is to be given a scheme."""

    layer: int
    name: str
    tensor: str
    shape: Tuple[int, int]


class _Mapped:
    """Numbers in a mapped file, as numpy's array interface wants them; keeps the file open."""

    def __init__(self, owner, address, dtype, shape):
        self.owner = owner
        self.__array_interface__ = {"version": 3, "data": (address, True), "typestr": numpy.dtype(dtype).str, "shape": shape}


class Model:
    """A model opened for reading; nothing but headers is in memory."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self._opened = native.OpenedModel(self.path)
        self.config = run("inspect", [self.path], {}, progress=False)
        for listed in ("tensors", "roles", "label", "model"):
            self.config.pop(listed, None)
        self.tensors = {name: Tensor(name, kind, tuple(shape), size) for name, kind, shape, size in self._opened.tensors()}
        self.modules = [Module(layer, name, tensor, (rows, cols)) for layer, name, tensor, rows, cols in self._opened.modules()]

    def __getitem__(self, name):
        """A tensor's numbers: the file's own, not to be written, where numpy has their type; otherwise as float32."""
        if name not in self.tensors:
            raise KeyError(f"{self.path} has no tensor {name}")
        mapped = self._opened.mapped(name)
        if mapped is None or mapped[1] not in _NUMPY_TYPES:
            return self._opened.read(name)
        address, kind = mapped
        return numpy.asarray(_Mapped(self._opened, address, _NUMPY_TYPES[kind], self.tensors[name].shape))

    def __contains__(self, name):
        return name in self.tensors

    def __iter__(self):
        return iter(self.tensors)

    def __len__(self):
        return len(self.tensors)

    def __repr__(self):
        return f"<strata_quant.Model {self.path}: {self.config['architecture']}, {self.config['layers']} layers>"


def open(path):
    """Opens a Hugging Face directory, a .safetensors beside its config or a .gguf: config, modules, and tensors by name."""
    return Model(path)


def inspect(model, **options):
    """A model's architecture, layers and sizes."""
    return run("inspect", [model], options, progress=False)


def score(model, method="nsds", *, progress=True, **options):
    """How sensitive every layer, or every matrix, is: the document of scores.json.

    A method of your own is a function of a Module and its weights [rows, cols] that gives a number, higher for a
    matrix that suffers more.
    """
    if callable(method):
        if options:
            raise TypeError(f"score() with a function takes no option {next(iter(options))!r}; give schemes to allocate()")
        return _scores_of(Model(_path_of(model)), method, progress)
    return run("score", [_path_of(model)], {"method": method, **options}, progress)


def allocate(scores, *, progress=False, **options):
    """Scores (a dict, or the name of a file) to a plan under a budget: bpw, avg_bits or size."""
    return run("allocate", [scores], options, progress)


def frontier(scores, *, progress=False, **options):
    """Size against predicted cost for all budgets at once."""
    return run("frontier", [scores], options, progress)


def quantize(model, output, *, progress=True, **options):
    """Scores, allocates, quantizes, writes and measures; scores=, plan= (dicts or files) or method= (also a function)."""
    if callable(options.get("method")):
        options["scores"] = score(model, options.pop("method"), progress=progress)
    return run("quantize", [_path_of(model)], {"output": output, **options}, progress)


def evaluate(model, text=None, *, progress=True, **options):
    """Perplexity, and what was lost against reference=."""
    return run("eval", [_path_of(model)], {"text": text, **options}, progress)


def verify(model, *, progress=True, **options):
    """Whether a finished file is what it should be."""
    return run("verify", [_path_of(model)], options, progress)


def compare(model, text=None, *, progress=True, **options):
    """Methods side by side at equal stored bytes."""
    return run("compare", [_path_of(model)], {"text": text, **options}, progress)


def recipe(plan, **options):
    """A plan in the words of another quantizer."""
    return run("recipe", [plan], options, progress=False)


class CostTable(NamedTuple):
    """costs[i, j]: what it costs the model that tensors[i] is stored in schemes[j]; NaN where that is not known."""

    tensors: Tuple[str, ...]
    schemes: Tuple[str, ...]
    costs: numpy.ndarray


class PlanTable(NamedTuple):
    """The scheme and the shape [rows, cols] of every matrix."""

    tensors: Tuple[str, ...]
    schemes: Tuple[str, ...]
    shapes: numpy.ndarray


def cost_table(scores):
    """The costs of a scores document as an array."""
    tensors = tuple(dict.fromkeys(cost["tensor"] for cost in scores["costs"]))
    schemes = tuple(dict.fromkeys(cost["scheme"] for cost in scores["costs"]))
    costs = numpy.full((len(tensors), len(schemes)), numpy.nan)
    row, column = ({name: place for place, name in enumerate(names)} for names in (tensors, schemes))
    for cost in scores["costs"]:
        costs[row[cost["tensor"]], column[cost["scheme"]]] = cost["cost"]
    return CostTable(tensors, schemes, costs)


def plan_table(plan):
    """The assignments of a plan document."""
    lines = plan["assignments"]
    shapes = numpy.array([line.get("shape", (0, 0)) for line in lines], dtype=numpy.int64).reshape(len(lines), 2)
    return PlanTable(tuple(line["tensor"] for line in lines), tuple(line["scheme"] for line in lines), shapes)


def with_costs(scores, costs, schemes):
    """The scores document with costs of your own.

    `costs` is an array [modules, schemes] in the order of scores["modules"] and of `schemes` (a list of names), or a
    function of a Module and a scheme's name that gives a number.
    """
    modules = [Module(line["layer"], line["module"], line["tensor"], tuple(line["shape"])) for line in scores["modules"]]
    if callable(costs):
        costs = [[costs(module, scheme) for scheme in schemes] for module in modules]
    array = numpy.asarray(costs)
    if array.dtype.kind not in "fiu":
        raise UsageError(f"the costs are an array of {array.dtype}, but numbers were expected")
    if array.shape != (len(modules), len(schemes)):
        raise UsageError(f"the costs are an array of the shape {list(array.shape)}, but "
                         f"[{len(modules)}, {len(schemes)}] was expected: a row for each of the modules, a column for each of "
                         "the schemes")
    lines = [{"tensor": module.tensor, "shape": list(module.shape), "scheme": scheme, "cost": float(array[i, j])}
             for i, module in enumerate(modules) for j, scheme in enumerate(schemes)]
    bad = [line for line in lines if not math.isfinite(line["cost"])]
    if bad:
        raise UsageError(f"the cost of {bad[0]['tensor']} in {bad[0]['scheme']} is {bad[0]['cost']}, but a finite number was "
                         "expected")
    changed = {key: value for key, value in scores.items() if key not in ("costs", "pair_costs", "boundaries")}
    return {**changed, "costs": lines}


def _path_of(model):
    return model.path if isinstance(model, Model) else os.fspath(model)


def _scores_of(model, method, progress):
    modules = model.modules
    if progress:
        from tqdm.auto import tqdm

        modules = tqdm(modules, desc="scoring", unit=" matrices", leave=False)
    name = getattr(method, "__name__", type(method).__name__)
    lines = []
    for module in modules:
        value = float(method(module, model[module.tensor].reshape(module.shape)))
        if not math.isfinite(value):
            raise UsageError(f"{name} gives {value} for {module.tensor}, but a finite number was expected")
        lines.append({"layer": module.layer, "module": module.name, "score": value,
                      "params": module.shape[0] * module.shape[1]})
    return {"format": "strata.scores", "version": 1, "model": model.path, "method": name, "unit": "module", "scores": lines,
            "modules": [{"layer": module.layer, "module": module.name, "tensor": module.tensor, "shape": list(module.shape)}
                        for module in model.modules]}


# The command behind each function, whose options help() lists.
COMMANDS = {inspect: "inspect", score: "score", allocate: "allocate", frontier: "frontier", quantize: "quantize",
            evaluate: "eval", verify: "verify", compare: "compare", recipe: "recipe"}


def options_of(function):
    """Declared options that a function takes as keywords beside its own parameters."""
    own = set(introspection.signature(function).parameters) | {"json", "quiet", "output"}
    return [option for option in native.options(COMMANDS[function])
            if not option["is_argument"] and option["name"].replace("-", "_") not in own]


def _document(function):
    lines = [function.__doc__, "", "Options:"]
    for option in options_of(function):
        default = f" (default {option['default']})" if option["default"] else ""
        lines.append(f"    {option['name'].replace('-', '_')}: {option['type'] or 'bool'}{default}: {option['help']}")
    function.__doc__ = "\n".join(lines)


for _function in COMMANDS:
    _document(_function)
