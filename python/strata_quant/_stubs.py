"""Prints __init__.pyi: python3 -m strata_quant._stubs > python/strata_quant/__init__.pyi"""

import inspect

from ._functions import COMMANDS, options_of

_HEAD = '''# Made by: python3 -m strata_quant._stubs
from os import PathLike
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

Path = Union[str, "PathLike[str]"]
Document = Dict[str, Any]

class Error(RuntimeError): ...
class UsageError(Error): ...

class Tensor(NamedTuple):
    name: str
    type: str
    shape: Tuple[int, ...]
    bytes: int

class Module(NamedTuple):
    layer: int
    name: str
    tensor: str
    shape: Tuple[int, int]

class CostTable(NamedTuple):
    tensors: Tuple[str, ...]
    schemes: Tuple[str, ...]
    costs: numpy.ndarray

class PlanTable(NamedTuple):
    tensors: Tuple[str, ...]
    schemes: Tuple[str, ...]
    shapes: numpy.ndarray

class Model:
    path: str
    config: Document
    tensors: Dict[str, Tensor]
    modules: List[Module]
    def __init__(self, path: Path) -> None: ...
    def __getitem__(self, name: str) -> numpy.ndarray: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

def open(path: Path) -> Model: ...
def cost_table(scores: Document) -> CostTable: ...
def plan_table(plan: Document) -> PlanTable: ...
def with_costs(
    scores: Document, costs: Union[numpy.ndarray, Callable[[Module, str], float]], schemes: Sequence[str]
) -> Document: ...
'''

_METHOD = "Union[str, Callable[[Module, numpy.ndarray], float]]"
_OWN = {"model": "Union[Path, Model]", "output": "Path", "text": "Union[None, Path, Sequence[Path]]",
        "scores": "Union[Path, Document]", "plan": "Union[Path, Document]", "method": _METHOD, "progress": "bool"}


def _type_of(option):
    if option["name"] in ("scores", "plan", "method"):
        return _OWN[option["name"]]
    if option["is_flag"] or option["type"] == "{on,off}" or option["type"] == "{off,on}":
        return "bool"
    if option["several"]:
        return "Union[Path, Sequence[Path]]"
    if option["type"] in ("INT", "UINT"):
        return "int"
    if option["type"] == "FLOAT":
        return "float"
    if option["type"] in ("FILE", "DIR", "MODEL", "OUT"):
        return "Path"
    return "Union[str, float, Sequence[Any]]" if option["type"] == "LIST" else "str"


def _function(function):
    lines = [f"def {function.__name__}("]
    starred = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            lines.append("    *,")
            starred = True
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"    {parameter.name}: {_OWN[parameter.name]}{default},")
    if not starred:
        lines.append("    *,")
    for option in options_of(function):
        name = option["name"].replace("-", "_")
        lines.append(f"    {name}: Optional[{_type_of(option)}] = None,")
    lines.append(") -> Document: ...")
    return "\n".join(lines) + "\n"


def text():
    functions = sorted(COMMANDS, key=lambda function: function.__name__)
    return _HEAD + "".join(_function(function) for function in functions)


if __name__ == "__main__":
    print(text(), end="")
