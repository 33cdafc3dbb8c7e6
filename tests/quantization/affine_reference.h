#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "strata/core/matrix.h"
#include "strata/core/random.h"
#include "strata/quantization/quantizer.h"

namespace strata {

// Weights like those of a language model: normal, with one in `rarity` thrown far out.
inline Matrix<float> heavy_tailed_matrix(int64_t rows, int64_t cols, uint64_t seed, double deviation = 0.02,
                                         int rarity = 50) {
  Random random(seed);
  Matrix<float> weights(rows, cols);
  for (float& w : weights.values) {
    const double far_out = rarity > 0 && random.below(static_cast<uint64_t>(rarity)) == 0 ? 6 : 1;
    w = static_cast<float>(random.normal() * deviation * far_out);
  }
  return weights;
}

// The indices of every group's weights, in the order in which groups are numbered, spelled out: axis 1 cuts
// each row, axis 0 lays all weights out in rows of `columns` and takes the columns.
inline std::vector<std::vector<int64_t>> groups_of(const AffineScheme& scheme, int64_t rows, int64_t cols) {
  std::vector<std::vector<int64_t>> groups;
  if (scheme.axis == 1) {
    const int64_t size = scheme.group_size == 0 ? cols : scheme.group_size;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        if (c % size == 0) groups.emplace_back();
        groups.back().push_back(r * cols + c);
      }
    }
    return groups;
  }
  int64_t columns = cols;
  if (scheme.group_size != 0)
    columns = static_cast<int64_t>(
        std::ceil(static_cast<double>(rows * cols) / static_cast<double>(scheme.group_size)));
  groups.resize(static_cast<size_t>(columns));
  for (int64_t i = 0; i < rows * cols; ++i) groups[i % columns].push_back(i);
  return groups;
}

inline double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  return sum;
}

// sum |a - b|^p
inline double power_distance(const std::vector<float>& a, const std::vector<float>& b, double p) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(std::abs(static_cast<double>(a[i]) - b[i]), p);
  return sum;
}

inline std::vector<float> dequantized(const AffineMatrix& matrix) {
  std::vector<float> weights(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.dequantize(weights.data());
  return weights;
}

inline QuantizerOptions round_to_nearest() {
  QuantizerOptions options;
  options.name = "rtn";
  return options;
}

}  // namespace strata
