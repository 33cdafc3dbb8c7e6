#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "strata/vision/graph.h"
#include "strata/vision/weight_codes.h"

namespace strata::vision {

// Second moments E[x x'] of what a layer's weights meet, one matrix a group: [groups, K, K] float32, K the
// weights of one output. A convolution meets patches, a product rows.
struct PatchMoments {
  at::Tensor sums;
  double count = 0;

  // Adds what flows in. `most`: so many patches of it at most, evenly spread; results depend on nothing else.
  void add(const Graph& graph, const Layer& layer, const at::Tensor& input, int64_t most);
};

// Whether a layer's output is a sum over patches of what flows in: all but transposed convolutions, and
// convolutions of other than two dimensions.
bool has_patches(const Layer& layer);

struct AdaRoundOptions {
  int steps = 600;
  double learning_rate = 0.01;
  double regularization = 1000;  // a mean over weights beside a loss that is 1 where rounding is to nearest
};

// E |(W - Q) x|^2, summed over outputs: what quantized weights take from a layer's output.
double output_error(const Layer& layer, const WeightCodes& weights, const PatchMoments& moments);

// AdaRound of one layer (Nagel et al. 2020, arXiv 2004.10568, equations 15 to 25): with scales s as given,
//   w' = s clip(floor(w / s) + h(V), lowest, highest),
// V learned by Adam on the loss |W x - W' x|^2 and the regularizer of soft_rounding.h. The loss follows from
// the moments of x, so that all of its images count in every step.
WeightCodes adaround(const Layer& layer, const WeightCodes& nearest, const PatchMoments& moments,
                     const AdaRoundOptions& options);

}  // namespace strata::vision
