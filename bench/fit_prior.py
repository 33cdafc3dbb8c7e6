"""The weights of the scoring method `prior` (strata/sensitivity/prior.cpp), fitted on measured costs.

    python3 bench/fit_prior.py build/strata --calib TEXT MODEL [--by-gradients MODEL...]

Weight of a matrix = KL divergence measured with it alone in w3g64, over the relative squared error of its weights; all
weights of a model are scaled so that those of an average layer are 1 together. A role's weight between the first and
the last layer is the geometric mean over layers and models; its weight in the first and in the last layer the
geometric mean over models, moved half-way (in logarithms) to the one between. Models --by-gradients are predicted by
the method `fisher`, scaled role by role with what the first model's KL divergence is of its own predictions: minutes
in the place of an hour. The weights of embedding and head are given over those of all layers together.
"""
import argparse
import collections
import json
import math
import pathlib
import tempfile

from strata_program import run

ROLES = {"q_proj": "Q", "k_proj": "K", "v_proj": "V", "o_proj": "O", "gate_proj": "Gate", "up_proj": "Up",
         "down_proj": "Down"}
BESIDE = {"embedding": 0.08, "head": 0.14, "embedding+head": 0.22}  # as the program has them


def mean(values):
    """Geometric."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def costs(options, scratch, model, method):
    """Costs in w3g64 by (layer, role) and by name for embedding and head, and what shares of layers they have."""
    path = pathlib.Path(scratch) / "scores.json"
    calibration = [] if method == "uniform" else ["--calib", options.calib, "--calib-tokens", 2048]
    run(options, "score", model, "--method", method, "--schemes", "w3g64", *calibration, "-o", path)
    scores = json.loads(path.read_text())
    places = {module["tensor"]: (module["layer"], ROLES[module["module"].split(".")[-1]])
              for module in scores["modules"]}
    places |= {boundary["tensor"]: boundary["module"] for boundary in scores.get("boundaries", [])}
    found, weights = {}, {}
    for cost in scores["costs"]:
        found[places[cost["tensor"]]] = cost["cost"]
        weights[places[cost["tensor"]]] = math.prod(cost["shape"])
    of_layer = collections.Counter()
    for place, count in weights.items():
        if isinstance(place, tuple):
            of_layer[place[0]] += count
    shares = {place: count / of_layer[place[0]] for place, count in weights.items() if isinstance(place, tuple)}
    return found, shares


def relative_errors(options, scratch, model):
    """`uniform` gives a matrix the cost share of its layer x error; embedding and head layers x BESIDE x error."""
    found, shares = costs(options, scratch, model, "uniform")
    layers = 1 + max(layer for layer, _ in shares)
    return {place: cost / (shares[place] if place in shares else layers * BESIDE[place])
            for place, cost in found.items()}


def scaled(weights):
    layers = 1 + max(place[0] for place in weights if isinstance(place, tuple))
    total = sum(weight for place, weight in weights.items() if isinstance(place, tuple))
    return layers, {place: weight * (layers if isinstance(place, tuple) else 1) / total
                    for place, weight in weights.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("strata")
    parser.add_argument("model")
    parser.add_argument("--by-gradients", nargs="*", default=[])
    parser.add_argument("--calib", required=True)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measured, _ = costs(options, scratch, options.model, "kl")
        tables = [(measured, relative_errors(options, scratch, options.model))]
        if options.by_gradients:
            predicted, _ = costs(options, scratch, options.model, "fisher")
            ratios = collections.defaultdict(list)
            for place, cost in measured.items():
                ratios[place[1] if isinstance(place, tuple) else place].append(cost / predicted[place])
        for model in options.by_gradients:
            gradients, _ = costs(options, scratch, model, "fisher")
            tables.append(({place: cost * mean(ratios[place[1] if isinstance(place, tuple) else place])
                            for place, cost in gradients.items()}, relative_errors(options, scratch, model)))
    models = [scaled({place: cost / errors[place] for place, cost in table.items()}) for table, errors in tables]
    for role in ROLES.values():
        def of_layer(pick):
            return mean(mean(weights[layer, role] for layer in pick(layers)) for layers, weights in models)
        between = of_layer(lambda layers: range(1, layers - 1))
        first, last = (math.sqrt(between * of_layer(pick)) for pick in
                       (lambda _: [0], lambda layers: [layers - 1]))
        print(f"{role:5} first {first:.3f} between {between:.3f} last {last:.3f}")
    for boundary in ("embedding", "head", "embedding+head"):
        if found := [weights[boundary] for _, weights in models if boundary in weights]:
            print(f"{boundary} {mean(found):.2f}")


main()
