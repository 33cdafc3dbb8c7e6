#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "strata/core/matrix.h"
#include "strata/quantization/scheme.h"

namespace strata {

// A matrix stored in affine groups: w = (code - zero) * scale. Groups are numbered row by row (axis 1: row *
// groups per row + group; axis 0: the column of W.reshape(group_size, -1)). Scales and zeros hold the values
// as the file will store them (rounded to fp16, or through the second level).
struct AffineMatrix {
  AffineScheme scheme;
  int64_t rows = 0, cols = 0;
  std::vector<uint8_t> codes;  // one a weight, in the order of the weights
  std::vector<float> scales, zeros;

  void dequantize(float* weights) const;
};

struct QuantizerOptions {
  std::string name = "hqq";           // "rtn" or "hqq", for affine schemes
  const float* importance = nullptr;  // cols values or null; used by GGUF encoders
  int hqq_iterations = 20;
};

// Names accepted by QuantizerOptions::name.
std::vector<std::string> quantizer_names();

// Quantizes into codes, scales and zeros. `weights` is left as it is.
AffineMatrix quantize_affine(MatrixView<const float> weights, const AffineScheme& scheme,
                             const QuantizerOptions& options);

// Quantizes and dequantizes in place with any scheme, holding only a few rows of scratch. Returns the squared
// error sum (w - w')^2 in double precision. GGUF schemes go through their encoder and decoder, after
// stored_type().
double fake_quantize(MatrixView<float> weights, const Scheme& scheme, const QuantizerOptions& options);

// The squared error alone; `weights` stays as it is.
double quantization_error(MatrixView<const float> weights, const Scheme& scheme,
                          const QuantizerOptions& options);

}  // namespace strata
