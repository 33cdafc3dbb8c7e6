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

// A model with its images, made ready to be scored.
struct Workplace {
  Graph graph;
  ImageSet images, scoring, reporting;
  QuantizedLayers layers;

  Workplace(const Request& request, Reports reports)
      : graph(open_graph(request)),
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

CompareRow evaluate_method(Workplace& place, WidthScorer& scorer, const CompareRequest& request,
                           const std::vector<LayerSize>& sizes, const std::string& method,
                           const WidthBudget& budget) {
  CompareRow row;
  row.method = method;
  const std::vector<size_t> free = free_layers(place.graph, request.scoring.free_ends);
  const int seeds = method == "random" ? request.seeds : 1;
  std::vector<double> top1;
  for (int s = 0; s < seeds; ++s) {
    row.plan = plan_for(scorer, sizes, free, method, budget, request.allocation,
                        request.scoring.seed + static_cast<uint64_t>(s));
    const Accuracy one = evaluate(place.graph, place.reporting, place.layers.overrides(row.plan.layers));
    row.accuracy.images = one.images;
    row.accuracy.top1 += one.top1 / seeds;
    row.accuracy.top5 += one.top5 / seeds;
    row.accuracy.cross_entropy += one.cross_entropy / seeds;
    top1.push_back(one.top1);
  }
  if (seeds > 1) {
    double squares = 0;
    for (double value : top1) squares += (value - row.accuracy.top1) * (value - row.accuracy.top1);
    row.spread = std::sqrt(squares / (seeds - 1));
  }
  return row;
}

}  // namespace

bool is_onnx(const std::filesystem::path& path) {
  return path.extension() == ".onnx";
}

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
  const OnnxModel quantized = quantized_model(place.layers, result.plan.layers, request.exporting);
  result.file_bytes = write_onnx(request.output, quantized, [&](const std::filesystem::path& complete) {
    OnnxModel read = read_onnx(complete);
    read.path = request.output;
    check_quantized(read, place.layers, result.plan.layers, place.scoring);
  });
  result.original = evaluate(place.graph, place.reporting);
  result.simulated = evaluate(place.graph, place.reporting, place.layers.overrides(result.plan.layers));
  result.written = evaluate(Graph(read_onnx(request.output), request.device), place.reporting);
  return result;
}

Comparison compare(const CompareRequest& request) {
  for (const std::string& method : request.methods) check_method(method, true);
  Workplace place(request, Reports::Accuracy);
  const std::vector<LayerSize> sizes = place.sizes();
  for (const WidthBudget& budget : request.budgets)
    uniform_widths(sizes, free_layers(place.graph, request.scoring.free_ends), budget);
  WidthScorer scorer(place.layers, place.scoring, request.scoring);
  Comparison result;
  result.scored = place.scoring.size();
  result.reported = place.reporting.size();
  result.original = evaluate(place.graph, place.reporting);
  result.eight_bits =
      evaluate(place.graph, place.reporting, place.layers.overrides(std::vector<Widths>(sizes.size())));
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
  for (const WidthBudget& budget : request.budgets)
    for (const std::string& method : request.methods)
      result.rows.push_back(evaluate_method(place, scorer, request, sizes, method, budget));
  if (request.correlate) correlate(place, scorer, request, result);
  return result;
}

}  // namespace strata::vision
