"""llama.cpp's quantization: llama_model_quantize from the shared libraries in the package llama-cpp-py-sync.

They want a C library of 2.38 for four functions of C23; where it is older, copies that do not insist, with the
functions from c23_names.cpp.
"""

import ctypes
import glob
import importlib.util
import os
import shutil
import struct

WEAK = 2  # VER_FLG_WEAK: the loader does not refuse a library for want of this version
NEEDED_VERSIONS = 0x6FFFFFFE  # SHT_GNU_verneed


def weaken_version(path, version):
    """Marks a version of the C library that a 64-bit ELF file needs as weak."""
    data = bytearray(open(path, "rb").read())
    (sections,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    table = [struct.unpack_from("<IIQQQQIIQQ", data, sections + i * size) for i in range(count)]
    for _, kind, _, _, offset, _, link, _, _, _ in table:
        if kind != NEEDED_VERSIONS:
            continue
        strings, library, more = table[link][4], offset, True
        while more:
            _, versions, _, first, following = struct.unpack_from("<HHIII", data, library)
            at = library + first
            for _ in range(versions):
                _, flags, _, name, step = struct.unpack_from("<IHHII", data, at)
                if data[strings + name :].startswith(version + b"\0"):
                    struct.pack_into("<H", data, at + 4, flags | WEAK)
                at += step
            library, more = library + following, following > 0
    open(path, "wb").write(data)


class Quantizer:
    """Raises ImportError where the package is missing or does not load; `scratch` is a folder for copies."""

    def __init__(self, c23_names, scratch):
        found = importlib.util.find_spec("llama_cpp_py_sync")
        if found is None:
            raise ImportError("the Python package llama-cpp-py-sync is not installed")
        folder = os.path.dirname(found.origin)
        declarations = importlib.util.spec_from_file_location("declarations", f"{folder}/_cffi_bindings.py")
        bindings = importlib.util.module_from_spec(declarations)
        declarations.loader.exec_module(bindings)
        self.ffi = bindings.get_ffi()
        self.llama = self._open(folder, c23_names, scratch)
        self.silence = self.ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda *_: None)
        self.llama.llama_log_set(self.silence, self.ffi.NULL)

    def _open(self, folder, c23_names, scratch):
        try:
            return self.ffi.dlopen(f"{folder}/libllama.so.0")
        except OSError as error:
            if "GLIBC_2.38" not in str(error):
                raise ImportError(error) from error
        for path in glob.glob(f"{folder}/*.so*"):
            weaken_version(shutil.copy(path, scratch), b"GLIBC_2.38")
        ctypes.CDLL(c23_names, mode=ctypes.RTLD_GLOBAL)
        return self.ffi.dlopen(f"{scratch}/libllama.so.0")

    def quantize(self, source, target, file_type, rules=(), embedding=None, output=None, importance=None, threads=1):
        """As llama-quantize with --tensor-type-file (pairs of pattern and type), --token-embedding-type,
        --output-tensor-type and --imatrix (mean squares of inputs by tensor)."""
        ffi = self.ffi
        params = ffi.new("llama_model_quantize_params *", self.llama.llama_model_quantize_default_params())
        params.nthread, params.ftype, params.allow_requantize = threads, file_type, True
        if embedding is not None:
            params.token_embedding_type = embedding
        if output is not None:
            params.output_tensor_type = output
        patterns = [ffi.new("char[]", pattern.encode()) for pattern, _ in rules]
        overrides = ffi.new("struct llama_model_tensor_override[]", len(rules) + 1)  # the last one is empty: the end
        for override, pattern, (_, type_) in zip(overrides, patterns, rules):
            override.pattern, override.type = pattern, type_
        params.tt_overrides = overrides if rules else ffi.NULL
        names = [ffi.new("char[]", name.encode()) for name in importance or ()]
        entries = ffi.new("struct llama_model_imatrix_data[]", len(names) + 1)
        for entry, name, values in zip(entries, names, (importance or {}).values()):
            entry.name, entry.data, entry.size = name, ffi.from_buffer("float[]", values), len(values)
        params.imatrix = entries if importance else ffi.NULL
        if self.llama.llama_model_quantize(source.encode(), target.encode(), params) != 0:
            raise RuntimeError(f"llama.cpp did not quantize {source}")
