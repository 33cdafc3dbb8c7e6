"""Loads the native library beside the PyTorch that it was built with, and runs its commands."""

import importlib.util
import json
import os
import sys
import tempfile
import threading

from . import _build


def _load():
    if _build.TORCH:  # otherwise it was built with a LibTorch of the system
        if importlib.util.find_spec("torch") is None:
            raise ImportError(
                f"strata_quant was built with PyTorch {_build.TORCH}, but there is none here; install torch=={_build.TORCH}")
        import torch

        found = torch.__version__.split("+")[0]
        if found.split(".")[:2] != _build.TORCH.split(".")[:2]:
            raise ImportError(
                f"strata_quant was built with PyTorch {_build.TORCH}, but PyTorch {found} is here; install strata-quant "
                "again beside it, or that PyTorch")
    from . import _native

    return _native


native = _load()
_one_at_a_time = threading.Lock()  # threads and progress are the process's


class _Bars:
    """Progress as tqdm's bars, a bar a step."""

    def __init__(self):
        from tqdm.auto import tqdm

        self.tqdm, self.bars = tqdm, {}

    def progress(self, step, what, unit, done, total, finished):
        bar = self.bars.get(step)
        if bar is None:
            bar = self.bars[step] = self.tqdm(desc=what, total=total, unit=" " + unit, leave=False)
        bar.update(done - bar.n)
        if finished:
            self.bars.pop(step).close()

    def note(self, text):
        self.tqdm.write("note: " + text, file=sys.stderr)

    def close(self):
        for bar in self.bars.values():
            bar.close()


def _text(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ",".join(_text(one) for one in value)
    if isinstance(value, (str, int, float)):
        return str(value)
    if hasattr(value, "item"):  # numpy's numbers
        return str(value.item())
    return os.fspath(value)


def _arguments(command, options, folder):
    declared = {option["name"].replace("-", "_"): option for option in native.options(command) if not option["is_argument"]}
    for name, value in options.items():
        if name not in declared or name in ("json", "quiet"):
            near = [known for known in declared if name in known or known in name]
            raise TypeError(f"strata_quant has no option {name!r} here" + (f"; did you mean {near[0]!r}?" if near else "") +
                            f" ('strata {command} --help-all' lists them, with - for _)")
        option = declared[name]
        flag = "--" + option["name"]
        if value is None:
            continue
        if isinstance(value, dict):  # scores and plans, which commands read from files
            value = written(value, folder, name)
        if option["is_flag"]:
            if value:
                yield flag
        elif option["several"]:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                yield f"{flag}={_text(one)}"
        else:
            yield f"{flag}={_text(value)}"


def written(document, folder, name):
    """A document as a file of this name."""
    path = os.path.join(folder, name + ".json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, allow_nan=False, default=_plain)
    return path


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else os.fspath(value)


def run(command, arguments, options, progress=True):
    """The document that `strata COMMAND ARGUMENTS --OPTIONS --json` prints; arguments that are dicts become files."""
    with tempfile.TemporaryDirectory(prefix="strata-") as folder:
        words = [command]
        for place, argument in enumerate(arguments):
            words.append(written(argument, folder, f"argument-{place}") if isinstance(argument, dict) else _text(argument))
        words += _arguments(command, options, folder)
        with _one_at_a_time:
            bars = _Bars() if progress else None
            native.listen(bars and bars.progress, bars and bars.note)
            try:
                return json.loads(native.run(words))
            finally:
                native.listen(None, None)
                if bars:
                    bars.close()
