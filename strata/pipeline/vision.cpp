#include "strata/pipeline/vision.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/core/statistics.h"
#include "strata/core/stopwatch.h"
#include "strata/vision/equalize.h"
#include "strata/vision/network_inputs.h"
#include "strata/vision/simplify.h"

namespace strata::vision {
namespace {

enum class Reports { Nothing, Accuracy };

// Accuracy is never reported on images that were scored on: without others each part takes half.
int64_t images_to_score(const Request& request, int64_t available, Reports reports) {
  if (request.calibration_images < available) return request.calibration_images;
  if (reports == Reports::Nothing) return available;
  if (available < 2)
    fail("{} has {} images, but scoring and measuring accuracy need images of their own; give at least 2",
         request.images.path.string(), available);
  return available / 2;
}

// SQNR with weights at 4 bits, on the last quarter of the images.
double held_back_sqnr(Request request, bool equalize) {
  request.equalize = equalize;
  Graph graph = open_graph(request);
  const ImageSet all = load_inputs(request.images, graph);
  const ImageSet images = all.slice(0, std::min(all.size(), request.calibration_images));
  const int64_t calibrating = images.size() * 3 / 4;
  if (calibrating < 1)
    fail("{} has {} images to calibrate with, but --equalize-if-better needs at least 2", images.source,
         images.size());
  QuantizedLayers layers(graph, images.slice(0, calibrating), request.quantization);
  const ImageSet held_back = images.slice(calibrating, images.size() - calibrating);
  const Overrides changes = layers.overrides(std::vector<Widths>(graph.layers().size(), {4, 8}));
  return compare_outputs(graph, compute_outputs(graph, held_back), compute_outputs(graph, held_back, changes))
      .sqnr();
}

Request with_equalization_chosen(Request request) {
  if (request.equalize && request.equalize_if_better)
    fail_usage("--equalize and --equalize-if-better exclude each other; give one of them");
  if (request.equalize_if_better) request.equalize = equalizing_helps(request);
  return request;
}

// A model with its images, made ready to be scored.
struct Workplace {
  Graph graph;
  ImageSet images, scoring, reporting;
  QuantizedLayers layers;

  Workplace(const Request& request, Reports reports)
      : graph(open_graph(with_equalization_chosen(request))),
        images(load_inputs(request.images, graph)),
        scoring(images.slice(0, images_to_score(request, images.size(), reports))),
        reporting(images.slice(scoring.size(), images.size() - scoring.size())),
        layers(graph, scoring, request.quantization) {}

  std::vector<LayerSize> sizes() const { return layer_sizes(graph, images.batch(0, 1, graph.device())); }
};

WidthPlan plan_for(WidthScorer& scorer, const std::vector<LayerSize>& sizes, const std::vector<size_t>& free,
                   const std::string& method, const WidthBudget& budget, const WidthAllocation& allocation,
                   uint64_t seed) {
  if (method == "uniform") return uniform_widths(sizes, free, budget);
  return allocate_widths(sizes, scorer.score(method, seed), budget, allocation);
}

void check_method(const std::string& method, bool uniform_too) {
  const auto& known = width_methods();
  if (std::find(known.begin(), known.end(), method) != known.end() || (uniform_too && method == "uniform"))
    return;
  std::string list;
  for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
  fail_usage("there is no method '{}' for ONNX models; known are {}{}", method, list,
             uniform_too ? ", uniform" : "");
}

// What is compared where nothing was asked for: with labels what needs them, too.
std::vector<std::string> usual_methods(const ImageSet& images) {
  if (images.has_labels()) return {"uniform", "random", "weight-error", "hawq", "infoq", "kl", "accuracy"};
  return {"uniform", "random", "weight-error", "infoq", "output"};
}

// Costs of single changes in the order of the probes.
std::vector<double> costs_in_order(const WidthCosts& costs, const ProbeResults& probes) {
  std::map<size_t, const LayerCosts*> by_layer;
  for (const LayerCosts& layer : costs.layers) by_layer[layer.layer] = &layer;
  std::vector<double> result;
  for (const Probe& probe : probes.probes) {
    const LayerCosts& layer = *by_layer.at(probe.layer);
    result.push_back((probe.activation ? layer.activations
                                       : layer.weights)[static_cast<size_t>(probe.bits - kLowestWidth)]);
  }
  return result;
}

// Weights and activations apart, as they are scaled apart: the mean of both rank correlations.
double correlation(const std::vector<double>& scores, const std::vector<double>& measured,
                   const ProbeResults& probes) {
  double sum = 0;
  for (const bool activation : {false, true}) {
    std::vector<double> a, b;
    for (size_t p = 0; p < probes.probes.size(); ++p) {
      if (probes.probes[p].activation != activation) continue;
      a.push_back(scores[p]);
      b.push_back(measured[p]);
    }
    sum += rank_correlation(a, b) / 2;
  }
  return sum;
}

void correlate(Workplace& place, WidthScorer& scorer, const CompareRequest& request, Comparison& result) {
  ProbeOptions options;
  options.labels = options.inputs = false;
  options.free_ends = request.scoring.free_ends;
  if (!place.reporting.has_labels())
    fail_usage("--correlate needs labels, but {} has none", place.images.source);
  const ProbeResults measured = run_probes(place.layers, place.reporting, options);
  std::vector<double> drops, rises;
  for (const Probe& probe : measured.probes) {
    const Accuracy accuracy = accuracy_of(probe.logits, place.reporting);
    drops.push_back(-accuracy.top1);
    rises.push_back(accuracy.cross_entropy);
  }
  for (Correlation& one : result.correlations) {
    const std::vector<double> scores =
        costs_in_order(scorer.score(one.method, request.scoring.seed), measured);
    one.drop = correlation(scores, drops, measured);
    one.cross_entropy = correlation(scores, rises, measured);
  }
}

// What a network's outputs are worth.
Measured measure(const Graph& graph, const ImageSet& images, const Tensors& reference,
                 const Tensors& outputs) {
  Measured result;
  if (images.has_labels()) result.accuracy = accuracy_of(logits_of(graph, outputs, images.size()), images);
  result.agreement = compare_outputs(graph, reference, outputs);
  return result;
}

// Adds a share of what was measured.
void add_share(Measured& sum, const Measured& one, double share) {
  if (one.accuracy) {
    if (!sum.accuracy) sum.accuracy.emplace();
    sum.accuracy->images = one.accuracy->images;
    sum.accuracy->top1 += one.accuracy->top1 * share;
    sum.accuracy->top5 += one.accuracy->top5 * share;
    sum.accuracy->cross_entropy += one.accuracy->cross_entropy * share;
  }
  Agreement& agreement = sum.agreement;
  if (agreement.outputs.empty()) {
    agreement = one.agreement;
    for (OutputAgreement& output : agreement.outputs) output.sqnr = output.cosine = 0;
    if (agreement.top1) agreement.top1 = 0;
  }
  for (size_t o = 0; o < agreement.outputs.size(); ++o) {
    agreement.outputs[o].sqnr += one.agreement.outputs[o].sqnr * share;
    agreement.outputs[o].cosine += one.agreement.outputs[o].cosine * share;
  }
  if (agreement.top1) *agreement.top1 += one.agreement.top1.value_or(0) * share;
}

CompareRow evaluate_method(Workplace& place, WidthScorer& scorer, const CompareRequest& request,
                           const std::vector<LayerSize>& sizes, const Tensors& reference,
                           const std::string& method, const WidthBudget& budget) {
  CompareRow row;
  row.method = method;
  const std::vector<size_t> free = free_layers(place.graph, request.scoring.free_ends);
  const int seeds = method == "random" ? request.seeds : 1;
  std::vector<double> top1;
  for (int s = 0; s < seeds; ++s) {
    row.plan = plan_for(scorer, sizes, free, method, budget, request.allocation,
                        request.scoring.seed + static_cast<uint64_t>(s));
    place.layers.learn_rounding(row.plan.layers, place.scoring);
    const Tensors outputs =
        compute_outputs(place.graph, place.reporting, place.layers.overrides(row.plan.layers));
    const Measured one = measure(place.graph, place.reporting, reference, outputs);
    add_share(row.measured, one, 1.0 / seeds);
    if (one.accuracy) top1.push_back(one.accuracy->top1);
  }
  if (top1.size() > 1) {
    double squares = 0;
    const double mean = row.measured.accuracy->top1;
    for (double value : top1) squares += (value - mean) * (value - mean);
    row.spread = std::sqrt(squares / (seeds - 1));
  }
  return row;
}

}  // namespace

Graph open_graph(const Request& request) {
  OnnxModel model = read_onnx(request.model);
  if (request.equalize) {
    simplify(model);
    equalize(model);
  }
  Graph graph(std::move(model), request.device);
  if (!graph.carried().empty())
    show_note(fmt::format("carried through as they are: {}", fmt::join(graph.carried(), ", ")));
  return graph;
}

bool equalizing_helps(const Request& request) {
  const double equalized = held_back_sqnr(request, true), plain = held_back_sqnr(request, false);
  show_note(fmt::format("with weights at 4 bits {:.2f} dB equalized, {:.2f} dB as it is: {}", equalized,
                        plain, equalized > plain ? "equalized" : "left as it is"));
  return equalized > plain;
}

ScoreResult score(const Request& request, const std::string& method) {
  check_method(method, false);
  Workplace place(request, Reports::Nothing);
  const Stopwatch start;
  WidthScorer scorer(place.layers, place.scoring, request.scoring);
  ScoreResult result;
  result.costs = scorer.score(method, request.scoring.seed);
  result.seconds = start.seconds();
  result.sizes = place.sizes();
  result.json = to_json(result.costs, place.graph);
  return result;
}

QuantizeResult quantize(const QuantizeRequest& request) {
  check_method(request.method, true);
  require_output_file(request.output);
  require_other_file(request.output, request.model);
  Workplace place(request, Reports::Accuracy);
  QuantizeResult result;
  result.sizes = place.sizes();
  const std::vector<size_t> free = free_layers(place.graph, request.scoring.free_ends);
  uniform_widths(result.sizes, free, request.budget);  // refuses a budget that cannot be met before the work
  const Stopwatch scoring;
  WidthScorer scorer(place.layers, place.scoring, request.scoring);
  if (request.method != "uniform") scorer.score(request.method, request.scoring.seed);
  result.score_seconds = scoring.seconds();
  const Stopwatch planning;
  result.plan = plan_for(scorer, result.sizes, free, request.method, request.budget, request.allocation,
                         request.scoring.seed);
  result.plan_seconds = planning.seconds();
  place.layers.learn_rounding(result.plan.layers, place.scoring);
  const OnnxModel quantized = quantized_model(place.layers, result.plan.layers, request.exporting);
  result.file_bytes = write_onnx(request.output, quantized, [&](const std::filesystem::path& complete) {
    OnnxModel read = read_onnx(complete);
    read.path = request.output;
    check_quantized(read, place.layers, result.plan.layers, place.scoring);
  });
  const Tensors original = compute_outputs(place.graph, place.reporting);
  if (place.reporting.has_labels())
    result.original = accuracy_of(logits_of(place.graph, original, place.reporting.size()), place.reporting);
  const auto measured = [&](const Graph& graph, const Overrides& overrides) {
    return measure(graph, place.reporting, original, compute_outputs(graph, place.reporting, overrides));
  };
  result.simulated = measured(place.graph, place.layers.overrides(result.plan.layers));
  Graph written(read_onnx(request.output), request.device);
  if (!place.graph.runs_images_together()) written.run_images_alone();
  result.written = measured(written, {});
  return result;
}

EvaluateResult evaluate(const Request& request, const std::filesystem::path& reference) {
  Graph graph = open_graph(request);
  const ImageSet images = load_inputs(request.images, graph);
  if (!images.has_labels() && reference.empty())
    fail_usage("{} has no labels; give --labels FILE.npy, or --reference MODEL to compare with",
               images.source);
  EvaluateResult result;
  result.images = images.size();
  const Tensors outputs = compute_outputs(graph, images);
  if (images.has_labels()) result.accuracy = accuracy_of(logits_of(graph, outputs, images.size()), images);
  if (reference.empty()) return result;
  Request other = request;
  other.model = reference;
  Graph reference_graph = open_graph(other);
  if (!graph.runs_images_together()) reference_graph.run_images_alone();
  result.agreement = compare_outputs(reference_graph, compute_outputs(reference_graph, images), outputs);
  return result;
}

Comparison compare(const CompareRequest& given) {
  CompareRequest request = given;
  for (const std::string& method : request.methods) check_method(method, true);
  Workplace place(request, Reports::Accuracy);
  if (request.methods.empty()) request.methods = usual_methods(place.scoring);
  const std::vector<LayerSize> sizes = place.sizes();
  for (const WidthBudget& budget : request.budgets)
    uniform_widths(sizes, free_layers(place.graph, request.scoring.free_ends), budget);
  WidthScorer scorer(place.layers, place.scoring, request.scoring);
  Comparison result;
  result.scored = place.scoring.size();
  result.reported = place.reporting.size();
  const Tensors original = compute_outputs(place.graph, place.reporting);
  if (place.reporting.has_labels())
    result.original = accuracy_of(logits_of(place.graph, original, place.reporting.size()), place.reporting);
  const Overrides eight_bits = place.layers.overrides(std::vector<Widths>(sizes.size()));
  result.eight_bits = measure(place.graph, place.reporting, original,
                              compute_outputs(place.graph, place.reporting, eight_bits));
  // InfoQ first: its probes serve kl and accuracy, too, and their time is its own.
  std::vector<std::string> order = request.methods;
  std::stable_partition(order.begin(), order.end(),
                        [](const std::string& method) { return method == "infoq"; });
  for (const std::string& method : order) {
    if (method == "uniform") continue;
    const Stopwatch start;
    scorer.score(method, request.scoring.seed);
    result.correlations.push_back({method, 0, 0, start.seconds()});
  }
  if (request.correlate) correlate(place, scorer, request, result);  // before any weights are learned
  for (const WidthBudget& budget : request.budgets)
    for (const std::string& method : request.methods)
      result.rows.push_back(evaluate_method(place, scorer, request, sizes, original, method, budget));
  return result;
}

}  // namespace strata::vision
