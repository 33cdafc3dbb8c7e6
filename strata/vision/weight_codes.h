#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "strata/vision/graph.h"

namespace strata::vision {

inline constexpr int kLowestWidth = 2, kHighestWidth = 8;
inline constexpr size_t kWidths = kHighestWidth - kLowestWidth + 1;

// How a scale follows from the values it must cover.
enum class RangeRule {
  MinMax,        // covers all of them
  Percentile,    // of activations: leaves out the outermost ones
  SquaredError,  // the scale, of a grid, of the least squared error
  Divergence  // of activations: the range, of the same grid, whose codes' histogram is closest to the values'
};

// Weights as whole numbers: weight = scale[output] * code, code in [-2^(bits-1), 2^(bits-1) - 1].
struct WeightCodes {
  int bits = 8;
  at::Tensor codes;           // int8, in the weight's shape, on the CPU
  std::vector<float> scales;  // one an output
  double squared_error = 0;   // sum over all weights

  at::Tensor dequantize(int64_t output_axis) const;
};

// Rounds a layer's weights to nearest with one scale for every output. 2 <= bits <= 8; Percentile and
// Divergence are MinMax here.
WeightCodes quantize_weight(const Layer& layer, int bits, RangeRule rule);

}  // namespace strata::vision
