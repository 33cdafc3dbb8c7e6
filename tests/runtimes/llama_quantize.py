"""llama.cpp's own quantization, given the recipe of a mixed file, makes a file of the same types, tensor by tensor.

Usage: llama_quantize.py STRATA C23_NAMES FILES SOURCE

llama_model_quantize comes from the shared libraries in the package llama-cpp-py-sync. They want a C library of 2.38
for four functions of C23; where it is older, copies that do not insist, with the functions from C23_NAMES.
"""

import ctypes
import glob
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import gguf

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


def open_library(c23_names, scratch):
    """cffi's interface and llama.cpp; ends with 77 where the package is missing or does not load."""
    found = importlib.util.find_spec("llama_cpp_py_sync")
    if found is None:
        print("skipped: the Python package llama-cpp-py-sync is not installed")
        sys.exit(77)
    folder = os.path.dirname(found.origin)
    declarations = importlib.util.spec_from_file_location("declarations", f"{folder}/_cffi_bindings.py")
    bindings = importlib.util.module_from_spec(declarations)
    declarations.loader.exec_module(bindings)
    ffi = bindings.get_ffi()
    try:
        return ffi, ffi.dlopen(f"{folder}/libllama.so.0")
    except OSError as error:
        if "GLIBC_2.38" not in str(error):
            print(f"skipped: {error}")
            sys.exit(77)
    for path in glob.glob(f"{folder}/*.so*"):
        weaken_version(shutil.copy(path, scratch), b"GLIBC_2.38")
    ctypes.CDLL(c23_names, mode=ctypes.RTLD_GLOBAL)
    return ffi, ffi.dlopen(f"{scratch}/libllama.so.0")


def types_of(path):
    return {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(path).tensors}


def quantize(ffi, llama, source, target, rules, embedding, output):
    """As llama-quantize does with --tensor-type-file, --token-embedding-type and --output-tensor-type."""
    patterns = [ffi.new("char[]", pattern.encode()) for pattern, _ in rules]
    overrides = ffi.new("struct llama_model_tensor_override[]", len(rules) + 1)  # the last one is empty: the end
    for override, pattern, (_, type_) in zip(overrides, patterns, rules):
        override.pattern, override.type = pattern, type_
    params = ffi.new("llama_model_quantize_params *", llama.llama_model_quantize_default_params())
    params.nthread, params.ftype, params.tt_overrides = 1, gguf.LlamaFileType.MOSTLY_Q2_K, overrides
    params.token_embedding_type, params.output_tensor_type = embedding, output
    if llama.llama_model_quantize(source.encode(), target.encode(), params) != 0:
        sys.exit(f"llama.cpp did not quantize {source}")


def check(strata, ffi, llama, base, mixed, scratch):
    wanted = types_of(mixed)
    recipe = subprocess.run([strata, "recipe", mixed, "--for", "llama-quantize"], check=True, stdout=subprocess.PIPE,
                            text=True).stdout
    lines = [line.split("=") for line in recipe.split()]
    rules = [(pattern, gguf.GGMLQuantizationType[type_.upper()]) for pattern, type_ in lines]
    embedding = wanted["token_embd.weight"]
    quantize(ffi, llama, base, f"{scratch}/theirs.gguf", rules, embedding, wanted.get("output.weight", embedding))
    theirs = types_of(f"{scratch}/theirs.gguf")
    other = {name for name in wanted if theirs.get(name) != wanted[name]}
    if other or theirs.keys() != wanted.keys():
        sys.exit(f"{mixed}: {len(other)} of {len(wanted)} tensors have another type, such as "
                 f"{next((f'{n}: {theirs.get(n)} instead of {wanted[n].name}' for n in other), 'none')}")
    print(f"{os.path.basename(mixed)}: {len(rules)} lines, {len(wanted)} tensors, {len(set(wanted.values()))} types: "
          "the same tensor by tensor")


def main(strata, c23_names, files, source):
    with tempfile.TemporaryDirectory() as scratch:
        ffi, llama = open_library(c23_names, scratch)
        quiet = ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda level, text, data: None)
        llama.llama_log_set(quiet, ffi.NULL)
        base = f"{scratch}/base.gguf"
        plain = "--quiet --method uniform --bpw 32 --schemes F32 --embedding F32 --head F32 -o"
        subprocess.run([strata, "quantize", f"{source}/models/tiny-llama", *plain.split(), base], check=True,
                       stdout=subprocess.DEVNULL)
        check(strata, ffi, llama, base, f"{files}/mixed.gguf", scratch)


main(*sys.argv[1:])
