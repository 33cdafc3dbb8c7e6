#pragma once

#include <vector>

#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// What a matrix stands for, row by row.
inline std::vector<float> values_of(const QuantizedMatrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.dequantize(values.data());
  return values;
}

}  // namespace strata
