#include "strata/vision/width_costs.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/information/information_loss.h"
#include "strata/vision/image_files.h"
#include "strata/vision/top_k.h"

namespace strata::vision {
namespace {

size_t entry(int bits) {
  return static_cast<size_t>(bits - kLowestWidth);
}

struct Description {
  const char *name, *text;
};

constexpr Description kMethods[] = {
    {"infoq", "sliced mutual information that later layers lose"},
    {"kl", "KL divergence of the classes' distribution from the 8-bit network's"},
    {"output", "noise in all outputs, beside the 8-bit network's"},
    {"accuracy", "measured drop of top-1"},
    {"hawq", "Hessian trace times squared error"},
    {"weight-error", "squared error alone"},
    {"random", "a random weight for each layer, the same error in all"},
};

LayerCosts& costs_of(WidthCosts& costs, size_t layer) {
  return *std::find_if(costs.layers.begin(), costs.layers.end(),
                       [layer](const LayerCosts& candidate) { return candidate.layer == layer; });
}

}  // namespace

const std::vector<std::string>& width_methods() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Description& method : kMethods) list.emplace_back(method.name);
    return list;
  }();
  return names;
}

std::string describe_width_method(std::string_view name) {
  for (const Description& method : kMethods)
    if (name == method.name) return method.text;
  return {};
}

Options declare(WidthScoreOptions& options) {
  Option embedding;
  embedding.name = "input-embedding";
  embedding.type = "FILE.npy";
  embedding.help =
      "features of the images, a row each, that stand for the input; by default the network's first layer's";
  embedding.set = [&options](const std::string& file) { options.embedding = read_npy(file); };
  embedding.value = [] { return Json(); };
  return {
      choice("evidence", options.evidence,
             {{"auto", Evidence::Automatic},
              {"labels", Evidence::Labels},
              {"inputs", Evidence::Inputs},
              {"both", Evidence::Both}},
             "infoq: information about labels, about the input, or both; auto: labels where there are any"),
      embedding,
      choice("observers", options.observers,
             {{"blocks", ObserverChoice::Blocks},
              {"layers", ObserverChoice::Layers},
              {"last", ObserverChoice::Last}},
             "infoq: where information is read"),
      flag("no-inverse-width", options.inverse_width, "infoq: leave out the factor 1 / bits", false),
      number("directions", options.directions, 1, 1 << 16,
             "infoq: random directions of sliced mutual information"),
      number("neighbours", options.neighbours, 1, 16, "infoq: neighbours of the estimators"),
      number("hessian-samples", options.hessian_samples, 1, 100000,
             "hawq: random vectors of Hutchinson's estimator"),
      number("hessian-images", options.hessian_images, 1, 1 << 24, "hawq: images of the loss"),
      flag("free-ends", options.free_ends, "let the first and the last layer have fewer than 8 bits, too")};
}

WidthScorer::WidthScorer(QuantizedLayers& layers, ImageSet images, WidthScoreOptions options)
    : layers_(layers), images_(std::move(images)), options_(options) {
  if (options_.evidence == Evidence::Automatic)
    options_.evidence = images_.has_labels() ? Evidence::Labels : Evidence::Inputs;
}

void WidthScorer::require_labels(const std::string& method) const {
  if (!images_.has_labels())
    fail_usage("{} needs labels, but {} has none; infoq --evidence inputs, kl and output do without", method,
               images_.source);
}

const ProbeResults& WidthScorer::probes(bool with_information) {
  if (probes_ && (probes_have_information_ || !with_information)) return *probes_;
  ProbeOptions options;
  options.labels = with_information && options_.evidence != Evidence::Inputs;
  options.inputs = with_information && options_.evidence != Evidence::Labels;
  options.embedding = options_.embedding;
  options.observers = options_.observers;
  options.directions = options_.directions;
  options.neighbours = options_.neighbours;
  options.seed = options_.seed;
  options.free_ends = options_.free_ends;
  probes_ = run_probes(layers_, images_, options);
  probes_have_information_ = with_information;
  return *probes_;
}

const WidthCosts& WidthScorer::score(const std::string& method, uint64_t seed) {
  const auto key = std::make_pair(method, method == "random" ? seed : 0);
  const auto found = scored_.find(key);
  return found != scored_.end() ? found->second : scored_.emplace(key, compute(method, seed)).first->second;
}

WidthCosts WidthScorer::compute(const std::string& method, uint64_t seed) {
  if (method == "infoq") return infoq();
  if (method == "kl") return kl();
  if (method == "output") return output();
  if (method == "accuracy") return accuracy();
  if (method == "hawq") return hawq();
  if (method == "weight-error") return weight_error();
  if (method == "random") return random(seed);
  fail_usage("there is no method '{}' for ONNX models; known are {}", method, [] {
    std::string list;
    for (const std::string& name : width_methods()) list += (list.empty() ? "" : ", ") + name;
    return list;
  }());
}

WidthCosts WidthScorer::empty(const std::string& method) const {
  WidthCosts costs;
  costs.method = method;
  for (size_t l : free_layers(layers_.graph(), options_.free_ends))
    costs.layers.push_back({l, std::vector<double>(kWidths, 0.0), std::vector<double>(kWidths, 0.0)});
  return costs;
}

template <class Cost>
WidthCosts WidthScorer::from_probes(const std::string& method, const ProbeResults& results,
                                    const Cost& cost) const {
  WidthCosts costs = empty(method);
  for (const Probe& probe : results.probes) {
    LayerCosts& layer = costs_of(costs, probe.layer);
    (probe.activation ? layer.activations : layer.weights)[entry(probe.bits)] = cost(probe);
  }
  return costs;
}

WidthCosts WidthScorer::infoq() {
  if (options_.evidence != Evidence::Inputs) require_labels("infoq with labels as evidence");
  const ProbeResults& results = probes(true);
  return from_probes("infoq", results, [&](const Probe& probe) {
    double loss = 0;
    if (options_.evidence != Evidence::Inputs)
      loss += information_loss(results.reference.label, probe.flow.label, probe.bits, options_.inverse_width);
    if (options_.evidence != Evidence::Labels)
      loss += information_loss(results.reference.input, probe.flow.input, probe.bits, options_.inverse_width);
    return loss;
  });
}

WidthCosts WidthScorer::kl() {
  const ProbeResults& results = probes(false);
  if (!results.reference_logits.defined())
    fail("{}: kl needs an output of classes, a row for each image; output does without",
         layers_.graph().model().path.string());
  return from_probes("kl", results,
                     [&](const Probe& probe) { return divergence(results.reference_logits, probe.logits); });
}

WidthCosts WidthScorer::output() {
  return from_probes("output", probes(false), [](const Probe& probe) { return probe.noise; });
}

WidthCosts WidthScorer::accuracy() {
  require_labels("accuracy");
  const ProbeResults& results = probes(false);
  const double reference = accuracy_of(results.reference_logits, images_).top1;
  return from_probes("accuracy", results, [&](const Probe& probe) {
    return std::max(0.0, reference - accuracy_of(probe.logits, images_).top1);
  });
}

WidthCosts WidthScorer::hawq() {
  require_labels("hawq");
  const ImageSet some = images_.slice(0, std::min(images_.size(), options_.hessian_images));
  const HessianTraces traces =
      estimate_traces(layers_.graph(), some, options_.hessian_samples, options_.seed);
  WidthCosts costs = weight_error();
  costs.method = "hawq";
  for (LayerCosts& layer : costs.layers) {
    const size_t l = layer.layer;
    const auto weights = static_cast<double>(layers_.graph().layers()[l].weights());
    const auto values = static_cast<double>(layers_.statistics(l).values_per_image);
    for (double& cost : layer.weights) cost *= std::max(0.0, traces.weights[l]) / weights;
    for (double& cost : layer.activations) cost *= std::max(0.0, traces.inputs[l]) / values;
  }
  return costs;
}

WidthCosts WidthScorer::weight_error() {
  WidthCosts costs = empty("weight-error");
  for (LayerCosts& layer : costs.layers) {
    const size_t l = layer.layer;
    const auto values = static_cast<double>(layers_.statistics(l).values_per_image);
    for (int bits = kLowestWidth; bits < kHighestWidth; ++bits) {
      layer.weights[entry(bits)] = layers_.weight(l, bits).squared_error;
      layer.activations[entry(bits)] =
          values * squared_error(layers_.statistics(l), layers_.activation(l, bits));
    }
  }
  return costs;
}

WidthCosts WidthScorer::random(uint64_t seed) const {
  WidthCosts costs = empty("random");
  Random generator(seed);
  for (LayerCosts& layer : costs.layers) {
    const double weight = generator.uniform(), activation = generator.uniform();
    for (int bits = kLowestWidth; bits < kHighestWidth; ++bits) {
      layer.weights[entry(bits)] = weight * std::pow(0.25, bits);
      layer.activations[entry(bits)] = activation * std::pow(0.25, bits);
    }
  }
  return costs;
}

Json to_json(const WidthCosts& costs, const Graph& graph) {
  Json layers = Json::array();
  for (const LayerCosts& layer : costs.layers)
    layers.push_back({{"tensor", graph.layers()[layer.layer].tensor},
                      {"weights", layer.weights},
                      {"activations", layer.activations}});
  return {{"format", "strata.widths"}, {"version", 1},     {"model", graph.model().path.string()},
          {"method", costs.method},    {"lowest_bits", 2}, {"layers", layers}};
}

}  // namespace strata::vision
