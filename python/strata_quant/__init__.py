"""strata: mixed-precision quantization that spends bits where a network needs them.

    import strata_quant as sq

    scores = sq.score("models/tiny-llama", method="kl", schemes="gguf")
    plan = sq.allocate(scores, bpw=3.0)
    sq.quantize("models/tiny-llama", "model.gguf", plan=plan)
    sq.evaluate("model.gguf", text="sample.txt", reference="models/tiny-llama")

Functions take the options of the command of their name as keyword arguments, with _ for -, and give the document
that its --json prints. Failures are strata_quant.Error, of one sentence.
"""

__all__ = [
    "Error", "Model", "UsageError", "allocate", "compare", "cost_table", "evaluate", "frontier", "inspect", "open",
    "plan_table", "quantize", "recipe", "score", "verify", "with_costs",
]


def __getattr__(name):
    # LibTorch is loaded when it is first used, so that the command `strata` starts at once.
    if name not in __all__:
        raise AttributeError(f"module 'strata_quant' has no attribute {name!r}")
    from . import _functions

    for each in __all__:
        globals()[each] = getattr(_functions, each)
    return globals()[name]


def __dir__():
    return sorted(__all__)
