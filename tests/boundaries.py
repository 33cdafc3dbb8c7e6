#!/usr/bin/env python3
"""Every #include under strata/ against the table of folders, the DEPENDS lists of strata/CMakeLists.txt.

Usage: boundaries.py [ROOT]. Prints what the table does not allow, a line each, and exits 1. Before that it
plants wrong includes among the real files and sees each of them refused.
"""
import re
import sys
from pathlib import Path

# What a file uses, and the headers that it then has to name, itself or through a header of ours: precompiled
# headers bring these into every file, and hide their absence.
USES = {
    "LibTorch (at::)": (r"\bat::", r"(ATen|torch|c10)/"),
    "fmt (fmt::)": (r"\bfmt::", r"fmt/"),
    "nlohmann-json (nlohmann::)": (r"\bnlohmann::", r"nlohmann/"),
}
LIBTORCH = re.compile(r"(ATen|torch|c10|caffe2)/")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
COMMENT = re.compile(r"//.*")


def read_table(cmake):
    """Folder -> (the folders that it may include, whether it computes tensors), lowest first."""
    table = {}
    for words in re.findall(r"^strata_component\(([^)]*)\)", cmake, re.MULTILINE):
        name, *words = words.split()
        depends = words[words.index("DEPENDS") + 1:] if "DEPENDS" in words else []
        if "LIBRARIES" in depends:
            depends = depends[:depends.index("LIBRARIES")]
        table[name] = (set(depends), "TORCH" in words)
    return table


def folder_of(path):
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else None  # None: strata/strata.h, which stands above all folders


def check_folders(table, architecture, sources):
    """The table names every folder, lowest first, and the table of docs/architecture.md has its order."""
    seen = set()
    for name, (depends, _) in table.items():
        for other in sorted(depends - seen):
            yield f"strata/CMakeLists.txt: {name} depends on {other}, which does not stand before it"
        seen.add(name)
    for folder in sorted({folder_of(path) for path in sources} - {None, "cli"} - seen):
        yield f"strata/CMakeLists.txt: strata/{folder}/ is no strata_component()"
    documented = re.findall(r"^\| `(\w+)/` \|", architecture, re.MULTILINE)
    if documented != [*table, "cli"]:
        yield (f"docs/architecture.md: the table of folders is {', '.join(documented)}; "
               f"strata/CMakeLists.txt has {', '.join([*table, 'cli'])}")


def check_includes(table, sources):
    """Nothing is included from a folder that the table does not allow, nor LibTorch where none is computed."""
    for path, text in sources.items():
        folder = folder_of(path)
        allowed, tensors = table.get(folder, (set(table), False))  # cli and strata.h: all but cli
        for mark, header in INCLUDE.findall(text):
            ours = header.startswith("strata/")
            if ours and header not in sources:
                yield f'{path}: includes "{header}", which does not exist'
            elif ours and folder_of(header) not in allowed | {folder}:
                yield f'{path}: includes "{header}", which strata/CMakeLists.txt does not allow {folder or "strata.h"}'
            elif mark == '"' and not ours:
                yield f'{path}: includes "{header}"; our own headers are named from the root, "strata/..."'
            elif LIBTORCH.match(header) and not tensors:
                yield f"{path}: includes <{header}>, but {folder or 'strata.h'} is no TORCH component"


def check_uses(sources):
    """A file names the headers of what it uses, rather than lean on a precompiled header."""
    included = {path: [header for _, header in INCLUDE.findall(text)] for path, text in sources.items()}
    reached = {}

    def reach(path):
        if path not in reached:
            reached[path] = set()  # for a circle of includes
            for header in included.get(path, []):
                reached[path] |= {header} | reach(header)
        return reached[path]

    for path, text in sources.items():
        code = COMMENT.sub("", text)
        for what, (use, header) in USES.items():
            if re.search(use, code) and not any(re.match(header, name) for name in reach(path)):
                yield f"{path}: uses {what} and includes no header of it"


def problems(cmake, architecture, sources):
    table = read_table(cmake)
    return [*check_folders(table, architecture, sources), *check_includes(table, sources), *check_uses(sources)]


def refuses_planted(cmake, architecture, sources):
    """What this check itself gets wrong: wrong files that it takes, and right ones that it does not."""
    before = problems(cmake, architecture, sources)
    plants = {
        "strata/core/planted.h": '#include "strata/model/model.h"',
        "strata/model/planted.h": '#include "strata/quantization/scheme.h"',
        "strata/report/planted.cpp": '  #  include "strata/evaluation/evaluate.h"',
        "strata/pipeline/planted.cpp": '#include "strata/cli/common.h"',
        "strata/planted.h": '#include "strata/cli/common.h"',
        "strata/gguf/planted.h": "#include <ATen/ATen.h>",
        "strata/export/planted.cpp": "#include <torch/torch.h>",
        "strata/cli/planted.cpp": "#include <c10/core/Device.h>",
        "strata/core/planted.cpp": '#include "error.h"',
        "strata/core/gone.cpp": '#include "strata/core/no_such_file.h"',
        "strata/attic/planted.cpp": "",
        "strata/device/planted.h": "at::Tensor zeros();",
        "strata/core/text_of.cpp": 'std::string text() { return fmt::format("{}", 1); }',
    }
    for path, text in plants.items():
        found = [line for line in problems(cmake, architecture, {**sources, path: text}) if line not in before]
        if len(found) != 1 or path.rsplit("/", 1)[0] not in found[0]:
            yield f"{path} with {text!r} should be refused, once, by name: {found}"
    right = {"strata/pipeline/planted.h": '#include "strata/model/model.h"\n#include "strata/core/json.h"\n'
                                          "#include <ATen/ATen.h>\nat::Tensor zeros(nlohmann::json);"}
    for line in problems(cmake, architecture, {**sources, **right}):
        if line not in before:
            yield f"a right file is refused: {line}"
    swapped = re.sub(r"(\| `core/` .*\n)(\| `gguf/` .*\n)", r"\2\1", architecture)
    if problems(cmake, swapped, sources) == before:
        yield "docs/architecture.md in another order is not refused"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1])
    sources = {path.relative_to(root).as_posix(): path.read_text()
               for path in sorted(root.glob("strata/**/*")) if path.suffix in (".h", ".cpp")}
    tree = (root / "strata/CMakeLists.txt").read_text(), (root / "docs/architecture.md").read_text(), sources
    found = problems(*tree) + list(refuses_planted(*tree))
    print("\n".join(found) or f"{len(sources)} files include what the table of folders allows")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
