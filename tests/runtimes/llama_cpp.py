"""llama.cpp through its C interface, as the shared object of the package xllamacpp exports it, or, where that is
missing, llama-cpp-py-sync's. A llama-cpp-python built with a BLAS serves as llama.cpp that keeps float activations.

The parameter structs differ between releases, so their layout is never spelled out: llama.cpp fills a buffer
that is larger than any of them with its defaults, and takes it back by value (structs of that size travel on
the stack, where bytes beyond the callee's own struct are not looked at).
"""

import ctypes
import fnmatch
import importlib.metadata
import os

import numpy as np


class Params(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


LOG_WARNING, LOG_ERROR = 3, 4
LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


LIBRARIES = {  # by package
    "xllamacpp": "xllamacpp/xllamacpp*.so",
    "llama-cpp-py-sync": "llama_cpp_py_sync/libllama.so.0",
    "llama-cpp-python": "llama_cpp/lib/libllama.so",
}
EIGHT_BITS = ("xllamacpp", "llama-cpp-py-sync")  # as published, without a BLAS
FLOATS = "llama-cpp-python"


def find_library(packages=EIGHT_BITS):
    """The shared object of the first package that is installed, and package and release."""
    for package in packages:
        try:
            files = importlib.metadata.files(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        (path,) = [file.locate() for file in files if fnmatch.fnmatch(str(file), LIBRARIES[package])]
        return str(path), f"{package} {importlib.metadata.version(package)}"
    raise ImportError(f"not installed: {', '.join(packages)}")


def find_blas_library():
    """The same of a llama.cpp that multiplies batches in float32.

    CMAKE_ARGS="-DGGML_BLAS=ON -DGGML_BLAS_VENDOR=OpenBLAS -DGGML_CPU_REPACK=OFF -DLLAVA_BUILD=OFF" makes pip build one:
    a matrix is dequantized and multiplied by the BLAS where 32 tokens or more come at once. Repacked weights would not be.
    """
    path, name = find_library([FLOATS])
    if not os.path.exists(os.path.join(os.path.dirname(path), "libggml-blas.so")):
        raise ImportError(f"{name} was built without GGML_BLAS")
    return path, f"{name} with OpenBLAS"


def open_library(path):
    library = ctypes.CDLL(path)
    pointer = ctypes.c_void_p
    signatures = {
        "llama_log_set": (None, [LogCallback, pointer]),
        "llama_backend_init": (None, []),
        "llama_model_default_params": (Params, []),
        "llama_model_load_from_file": (pointer, [ctypes.c_char_p, Params]),
        "llama_model_free": (None, [pointer]),
        "llama_model_get_vocab": (pointer, [pointer]),
        "llama_vocab_n_tokens": (ctypes.c_int32, [pointer]),
        "llama_context_default_params": (Params, []),
        "llama_init_from_model": (pointer, [pointer, Params]),
        "llama_free": (None, [pointer]),
        "llama_n_ctx": (ctypes.c_uint32, [pointer]),
        "llama_set_n_threads": (None, [pointer, ctypes.c_int32, ctypes.c_int32]),
        "llama_get_memory": (pointer, [pointer]),
        "llama_memory_clear": (None, [pointer, ctypes.c_bool]),
        "llama_batch_init": (Batch, [ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]),
        "llama_batch_free": (None, [Batch]),
        "llama_decode": (ctypes.c_int32, [pointer, Batch]),
        "llama_get_logits": (ctypes.POINTER(ctypes.c_float), [pointer]),
        "llama_tokenize": (
            ctypes.c_int32,
            [pointer, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32), ctypes.c_int32,
             ctypes.c_bool, ctypes.c_bool],
        ),
    }
    for function, (result, arguments) in signatures.items():
        getattr(library, function).restype = result
        getattr(library, function).argtypes = arguments
    return library


class Model:
    """A GGUF file opened by llama.cpp, which must load it without a warning.

    One thread by default: llama.cpp's threads wait for each other by spinning, which takes minutes on a machine
    that has other work.
    """

    WINDOW = 512  # the default context, and the window of the perplexity protocol

    def __init__(self, path, threads=1, library=None, tolerated=None):
        self.library = open_library(library or find_library()[0])
        self.log, self.complaints, self.tolerated = "", "", tolerated
        self.callback = LogCallback(self._remember)
        self.library.llama_log_set(self.callback, None)
        self.library.llama_backend_init()
        params = self.library.llama_model_default_params()
        self.model = self.library.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp did not load {path}; its log ends:\n{self.log[-2000:]}")
        if self.complaints:
            raise RuntimeError(f"llama.cpp complains of {path}:\n{self.complaints}")
        self.vocabulary = self.library.llama_model_get_vocab(self.model)
        self.vocabulary_size = self.library.llama_vocab_n_tokens(self.vocabulary)
        self.context = None
        self.threads = threads

    def _remember(self, level, text, _):
        line = text.decode("utf-8", "replace")
        self.log += line
        if level in (LOG_WARNING, LOG_ERROR) and not (self.tolerated and self.tolerated in line):
            self.complaints += line

    def close(self):
        if self.context:
            self.library.llama_free(self.context)
        self.library.llama_model_free(self.model)

    def tokenize(self, text, add_special=True):
        data = text.encode("utf-8")
        room = len(data) + 2
        ids = (ctypes.c_int32 * room)()
        count = self.library.llama_tokenize(self.vocabulary, data, len(data), ids, room, add_special, True)
        if count < 0:
            raise RuntimeError("llama.cpp could not tokenize the text")
        return np.ctypeslib.as_array(ids)[:count].copy()

    def logits(self, ids):
        """Logits [len(ids), vocabulary] of one window from an empty context."""
        library = self.library
        if self.context is None:
            self.context = library.llama_init_from_model(self.model, library.llama_context_default_params())
            if not self.context:
                raise RuntimeError(f"llama.cpp made no context; its log ends:\n{self.log[-2000:]}")
            library.llama_set_n_threads(self.context, self.threads, self.threads)
        if len(ids) > library.llama_n_ctx(self.context):
            raise RuntimeError("the window is longer than llama.cpp's context")
        library.llama_memory_clear(library.llama_get_memory(self.context), True)
        batch = library.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for position, token in enumerate(ids):
            batch.token[position] = int(token)
            batch.pos[position] = position
            batch.n_seq_id[position] = 1
            batch.seq_id[position][0] = 0
            batch.logits[position] = 1
        status = library.llama_decode(self.context, batch)
        library.llama_batch_free(batch)
        if status != 0:
            raise RuntimeError(f"llama.cpp could not run the window (status {status})")
        values = library.llama_get_logits(self.context)
        return np.ctypeslib.as_array(values, shape=(len(ids), self.vocabulary_size))

    def perplexity(self, ids, windows):
        """exp of the mean negative log likelihood over the first windows, whose first token is not predicted."""
        total, count = 0.0, 0
        for start in range(0, windows * self.WINDOW, self.WINDOW):
            window = ids[start : start + self.WINDOW]
            if len(window) < self.WINDOW:
                break
            logits = self.logits(window)[:-1].astype(np.float64)
            largest = logits.max(axis=1, keepdims=True)
            normalizer = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
            total += (normalizer - logits[np.arange(len(window) - 1), window[1:]]).sum()
            count += len(window) - 1
        return float(np.exp(total / count)), count
