#include "strata/vision/probes.h"

#include <fmt/ranges.h>

#include <cmath>
#include <limits>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/device/device.h"
#include "strata/device/products.h"
#include "strata/information/sliced.h"
#include "strata/vision/agreement.h"
#include "strata/vision/batches.h"
#include "strata/vision/top_k.h"

namespace strata::vision {
namespace {

constexpr double kUnread = std::numeric_limits<double>::quiet_NaN();

// All images on their way, in batches.
using Batches = std::vector<Execution>;

class Observatory {
 public:
  Observatory(const Graph& graph, const ImageSet& images, const ProbeOptions& options)
      : graph_(graph),
        images_(images),
        options_(options),
        stem_node_(graph.layers()[graph.first_layers().front()].node),
        nodes_(observer_nodes(graph, options.observers)) {
    if (!options.labels && !options.inputs) nodes_.clear();
    if (options.inputs && options.embedding.defined()) use_embedding();
    if (!nodes_.empty() && images.size() < options.neighbours + 2)
      fail("{} has {} images, but mutual information with {} neighbours needs at least {}", images.source,
           images.size(), options.neighbours, options.neighbours + 2);
  }

  const std::vector<size_t>& nodes() const { return nodes_; }

  // Runs copies of the batches to the end with the changes; `reached` are the nodes worth reading. The first
  // run is the reference's.
  void run(const Batches& batches, const Overrides& overrides, const std::vector<bool>& reached,
           Probe& probe) {
    InformationFlow& flow = probe.flow;
    // By batch, so that their order is the images'.
    struct Seen {
      std::vector<at::Tensor> features;  // by observer
      at::Tensor stem, logits;
      double noise = 0;
    };
    const bool is_reference = reference_.empty();
    if (is_reference) reference_.resize(batches.size());
    std::vector<Seen> seen(batches.size());
    for_each_batch(images_.size(), graph_, [&](int64_t index, int64_t, int64_t count) {
      Seen& of_batch = seen[static_cast<size_t>(index)];
      of_batch.features.resize(nodes_.size());
      Execution execution = batches[static_cast<size_t>(index)];
      const auto observe = [&](size_t n, const at::Tensor& output) {
        if (needs_stem() && n == stem_node_) of_batch.stem = stem_features(output);
        for (size_t o = 0; o < nodes_.size(); ++o)
          if (nodes_[o] == n && reached[n]) of_batch.features[o] = pooled_features(output);
      };
      Tensors outputs = execution.finish(overrides, observe);
      if (gives_classes(outputs)) of_batch.logits = logits_of(graph_, outputs, count).to(at::kCPU);
      if (is_reference)
        reference_[static_cast<size_t>(index)] = std::move(outputs);
      else
        of_batch.noise =
            relative_noise(reference_[static_cast<size_t>(index)], outputs) * static_cast<double>(count);
    });
    const c10::InferenceMode inference;
    for (const Seen& of_batch : seen) probe.noise += of_batch.noise / static_cast<double>(images_.size());
    if (images_.has_labels()) images_.check_labels(classes_of(seen.front().logits).size(1));
    const auto gather = [&](const auto& part_of) {
      std::vector<at::Tensor> parts;
      for (const Seen& of_batch : seen) parts.push_back(part_of(of_batch));
      return at::cat(parts);
    };
    if (needs_stem()) stem_ = along_directions(gather([](const Seen& s) { return s.stem; }), nodes_.size());
    flow.label.assign(nodes_.size(), kUnread);
    flow.input.assign(nodes_.size(), kUnread);
    for (size_t o = 0; o < nodes_.size(); ++o) {
      if (!reached[nodes_[o]]) continue;
      const at::Tensor projected = along_directions(gather([&](const Seen& s) { return s.features[o]; }), o);
      if (options_.labels) flow.label[o] = sliced_information(projected, images_.labels, options_.neighbours);
      if (options_.inputs) flow.input[o] = sliced_information(projected, stem_, options_.neighbours);
    }
    if (seen.front().logits.defined()) probe.logits = gather([](const Seen& s) { return s.logits; });
  }

 private:
  // Labels need classes that they can be held against.
  const at::Tensor& classes_of(const at::Tensor& logits) const {
    if (!logits.defined())
      fail("{}: the images have labels, but the output '{}' is no row of classes; leave the labels out",
           graph_.model().path.string(), graph_.outputs().front().info.name);
    return logits;
  }

  void use_embedding() {
    const at::Tensor& embedding = options_.embedding;
    if (embedding.dim() != 2 || embedding.size(0) < images_.size() || !embedding.is_floating_point())
      fail("the embedding has the shape {}, expected one row of features for each of at least {} images",
           fmt::join(embedding.sizes().vec(), " x "), images_.size());
    stem_ = along_directions(embedding.narrow(0, 0, images_.size()), nodes_.size());
  }

  bool needs_stem() const { return options_.inputs && !stem_.defined(); }

  // The same directions for the reference and all probes, others for every observer.
  at::Tensor along_directions(const at::Tensor& features, size_t observer) {
    if (directions_.size() <= observer) directions_.resize(observer + 1);
    at::Tensor& directions = directions_[observer];
    if (!directions.defined())
      directions =
          random_directions(features.size(1), options_.directions, options_.seed * 1000003 + observer)
              .to(features.device());
    return project(features, directions);
  }

  const Graph& graph_;
  const ImageSet& images_;
  const ProbeOptions& options_;
  size_t stem_node_;
  std::vector<size_t> nodes_;
  std::vector<at::Tensor> directions_;
  std::vector<Tensors> reference_;  // outputs of every batch
  at::Tensor stem_;
};

int64_t count_probes(const Graph& graph, const ProbeOptions& options) {
  const auto kinds = static_cast<int64_t>(options.weights) + static_cast<int64_t>(options.activations);
  return static_cast<int64_t>(free_layers(graph, options.free_ends).size() * options.bits.size()) * kinds;
}

}  // namespace

std::vector<size_t> free_layers(const Graph& graph, bool free_ends) {
  const size_t count = graph.layers().size();
  std::vector<bool> is_end(count, false);
  for (const std::vector<size_t>& ends : {graph.first_layers(), graph.last_layers()})
    for (size_t l : ends) is_end[l] = true;
  std::vector<size_t> layers;
  for (size_t l = 0; l < count; ++l)
    if (free_ends || !is_end[l]) layers.push_back(l);
  if (layers.empty())
    fail(
        "{} has {} layers: with the first and the last at 8 bits nothing is left to choose; give --free-ends",
        graph.model().path.string(), count);
  return layers;
}

ProbeResults run_probes(QuantizedLayers& layers, const ImageSet& images, const ProbeOptions& options) {
  use_threads();
  const OneThread each;
  const Graph& graph = layers.graph();
  Observatory observatory(graph, images, options);
  Overrides overrides = layers.overrides(std::vector<Widths>(graph.layers().size()));
  Batches batches;
  for_each_batch_in_order(images.size(), graph, [&](int64_t, int64_t first, int64_t count) {
    batches.emplace_back(graph, images.batch(first, count, graph.device()));
  });

  ProbeResults results;
  results.observers = observatory.nodes();
  Progress progress("Probing", count_probes(graph, options) + 1, "probes");
  Probe reference;
  observatory.run(batches, overrides, std::vector<bool>(graph.nodes().size(), true), reference);
  results.reference_logits = reference.logits;
  results.reference = std::move(reference.flow);
  progress.advance();
  for (size_t l : free_layers(graph, options.free_ends)) {
    const size_t node = graph.layers()[l].node;
    for_each_batch(images.size(), graph, [&](int64_t index, int64_t, int64_t) {
      batches[static_cast<size_t>(index)].run_before(node, overrides);
    });
    const std::vector<bool> reached = graph.followers(node);
    for (const bool activation : {false, true}) {
      if (!(activation ? options.activations : options.weights)) continue;
      for (int bits : options.bits) {
        Probe probe;
        probe.layer = l, probe.activation = activation, probe.bits = bits;
        const Widths widths = activation ? Widths{8, bits} : Widths{bits, 8};
        const LayerOverride usual = overrides[l];
        overrides[l] = layers.layer(l, widths);
        observatory.run(batches, overrides, reached, probe);
        overrides[l] = usual;
        results.probes.push_back(std::move(probe));
        progress.advance();
      }
    }
  }
  return results;
}

}  // namespace strata::vision
