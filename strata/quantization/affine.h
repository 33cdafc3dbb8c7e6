#pragma once

#include "strata/quantization/quantizer.h"

namespace strata {

// Quantizes and dequantizes an affine scheme: reads `weights` and writes the rounded values to `rounded`,
// which may be the same memory, or null when only the error is wanted. Returns the squared error. Holds a few
// tiles and, for second-level schemes, the scales and zero points of the matrix.
double round_affine(MatrixView<const float> weights, const AffineScheme& scheme,
                    const QuantizerOptions& options, float* rounded);

}  // namespace strata
