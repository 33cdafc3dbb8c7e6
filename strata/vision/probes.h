#pragma once

#include <cstdint>
#include <vector>

#include "strata/vision/observers.h"
#include "strata/vision/quantized_layers.h"

namespace strata::vision {

struct ProbeOptions {
  std::vector<int> bits = {2, 3, 4, 5, 6, 7};
  bool weights = true, activations = true;
  bool free_ends = false;  // probe the first and the last layer, too
  // What is read at the observers; neither leaves only the logits.
  bool labels = true, inputs = false;
  at::Tensor embedding;  // [images, features] of the inputs, X; undefined = stem_features()
  ObserverChoice observers = ObserverChoice::Blocks;
  int64_t directions = 128;
  int neighbours = 3;
  uint64_t seed = 0;
};

// Sliced mutual information at every observer, in nats; NaN where it was not read.
struct InformationFlow {
  std::vector<double> label, input;
};

// One layer's weights, or what flows into it, at `bits`; everything else at 8.
struct Probe {
  size_t layer = 0;
  bool activation = false;
  int bits = 0;
  at::Tensor logits;     // [images, classes] on the CPU; undefined where the output is no classes
  double noise = 0;      // relative_noise (agreement.h) beside the reference
  InformationFlow flow;  // NaN at observers that the layer does not reach
};

struct ProbeResults {
  std::vector<size_t> observers;  // nodes
  at::Tensor reference_logits;    // all layers at 8 bits; undefined where the output is no classes
  InformationFlow reference;
  std::vector<Probe> probes;
};

// Layers that probes and plans may change: all but the first and the last, or all.
std::vector<size_t> free_layers(const Graph& graph, bool free_ends);

// Runs the network once with every change. What stands before a layer is computed once for all its probes:
// the reference walks from layer to layer, and each probe leaves it there.
ProbeResults run_probes(QuantizedLayers& layers, const ImageSet& images, const ProbeOptions& options);

}  // namespace strata::vision
