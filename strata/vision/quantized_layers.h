#pragma once

#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "strata/core/options.h"
#include "strata/vision/activation_ranges.h"
#include "strata/vision/adaround.h"
#include "strata/vision/graph.h"
#include "strata/vision/integer_convolution.h"
#include "strata/vision/weight_codes.h"

namespace strata::vision {

enum class WeightRounding { Nearest, AdaRound };

struct LayerQuantizationOptions {
  RangeRule weights = RangeRule::SquaredError;
  RangeRule activations = RangeRule::SquaredError;
  double percentile = 99.99;
  bool bias_correction = true;
  WeightRounding rounding = WeightRounding::Nearest;
  AdaRoundOptions adaround;
};

Options declare(LayerQuantizationOptions& options);

// Bits of one layer's weights and of what flows into it.
struct Widths {
  int weight = 8, activation = 8;

  bool operator==(const Widths& other) const {
    return weight == other.weight && activation == other.activation;
  }
};

// The layers of a graph at any width, each made on first use.
class QuantizedLayers {
 public:
  QuantizedLayers(const Graph& graph, const ImageSet& calibration, const LayerQuantizationOptions& options);

  const Graph& graph() const { return *graph_; }
  const InputStatistics& statistics(size_t layer) const { return statistics_[layer]; }
  const WeightCodes& weight(size_t layer, int bits);
  ActivationCode activation(size_t layer, int bits) const;

  // Rounds the weights of a plan's layers at its widths by AdaRound where the options say so, on `images`: a
  // layer's loss is on three of four batches, and what it learns is kept where it beats rounding to nearest
  // on the others. Each layer meets what the unquantized network puts into it, rounded to its own code.
  void learn_rounding(const std::vector<Widths>& plan, const ImageSet& images);

  // The bias that goes with weights of these bits: the layer's own, plus the mean of what rounding takes from
  // its outputs, (W - Q(W)) E[x] (Nagel et al. 2019, equation 16, with means measured). Undefined where the
  // layer has none and no correction is made. On the CPU.
  at::Tensor bias(size_t layer, int bits);

  // What simulates a layer of these widths in a run.
  const LayerOverride& layer(size_t layer, Widths widths);
  Overrides overrides(const std::vector<Widths>& plan);

 private:
  struct Quantized {
    WeightCodes codes;
    at::Tensor weight, bias;                      // on the graph's device
    std::shared_ptr<const PackedWeights> packed;  // where the layer is computed in whole numbers
  };
  Quantized& quantized(size_t layer, int bits);
  void set_codes(Quantized& quantized, size_t layer, WeightCodes codes) const;
  at::Tensor corrected_bias(size_t layer, const WeightCodes& codes) const;

  const Graph* graph_;
  LayerQuantizationOptions options_;
  std::vector<InputStatistics> statistics_;
  std::map<std::pair<size_t, int>, Quantized> weights_;
  std::map<std::pair<size_t, int>, LayerOverride> layers_;
  std::set<std::pair<size_t, int>> learned_;  // of weights_
};

}  // namespace strata::vision
