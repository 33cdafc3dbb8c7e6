#pragma once

#include "strata/core/matrix.h"
#include "strata/core/random.h"

namespace strata {

// Gaussian weights of deviation 0.02, every hundredth five times as wide; always the same.
inline Matrix<float> heavy_tailed_matrix(int64_t rows, int64_t cols) {
  Random random(1);
  Matrix<float> weights(rows, cols);
  for (float& w : weights.values)
    w = static_cast<float>(random.normal() * 0.02 * (random.below(100) == 0 ? 5 : 1));
  return weights;
}

}  // namespace strata
