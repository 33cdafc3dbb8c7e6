#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "strata/core/matrix.h"
#include "strata/quantization/scheme.h"

namespace strata {

// What ScaleStorage::SecondLevel stores: a scale is minimum + step * code with one fp16 minimum and step for
// every kScalesPerRange consecutive groups, a zero point the same with one minimum and step a matrix.
struct SecondLevelCodes {
  std::vector<uint8_t> scale_codes;                   // one a group
  std::vector<uint16_t> scale_minimums, scale_steps;  // fp16, one a range
  std::vector<uint8_t> zero_codes;                    // one a group; empty when symmetric
  uint16_t zero_minimum = 0, zero_step = 0;           // fp16
};

// A matrix stored in affine groups: w = (code - zero) * scale. Groups are numbered row by row (axis 1: row *
// groups per row + group; axis 0: the column of W.reshape(group_size, -1), whose last row may be partial).
// Scales and zeros hold the values as the file will store them: exactly representable in fp16, or decoded
// from the second level. Zero points are real numbers, codes (as floats) with integer_zero; symmetric ones
// are all 2^(bits-1) and not stored. Symmetric fp16 scales may be negative, so that the largest magnitude of
// either sign can take code 0.
struct AffineMatrix {
  AffineScheme scheme;
  int64_t rows = 0, cols = 0;
  std::vector<uint8_t> codes;  // one a weight, in the order of the weights
  std::vector<float> scales, zeros;
  SecondLevelCodes second_level;  // empty with fp16 scales
  // The group of every column ("g_idx"), the same in all rows, where groups are not of neighbouring columns
  // (axis 1 only); empty where column c is in group c / group_size.
  std::vector<int32_t> group_of_column;

  void dequantize(float* weights) const;
};

struct QuantizerOptions {
  std::string name = "hqq";           // "rtn" or "hqq", for affine schemes
  const float* importance = nullptr;  // cols values a matrix or null; used by GGUF encoders
  int hqq_iterations = 20;
  const float* row_impact = nullptr;  // rows values or null: which rows get high bits, see mixed_rows.h
  int64_t matrices = 1;  // of a stack: so many matrices one below the other, each quantized for itself
};

// What holds of one matrix [rows, cols] of a stack.
QuantizerOptions options_of_matrix(const QuantizerOptions& options, int64_t matrix, int64_t rows,
                                   int64_t cols);

// Quantizes into codes, scales and zeros. `weights` is left as it is. Throws Error where a weight is not
// finite, UsageError for an unknown quantizer.
AffineMatrix quantize_affine(MatrixView<const float> weights, const AffineScheme& scheme,
                             const QuantizerOptions& options);

// Quantizes and dequantizes in place with any scheme, holding only a few rows of scratch (NF4 and schemes
// that mix rows: a copy of the matrix). Returns the squared error sum (w - w')^2 in double precision. GGUF
// schemes go through their encoder and decoder, after stored_type(). When it throws (see quantize_affine),
// part of the weights may have been replaced.
double fake_quantize(MatrixView<float> weights, const Scheme& scheme, const QuantizerOptions& options);

// The squared error alone; `weights` stays as it is.
double quantization_error(MatrixView<const float> weights, const Scheme& scheme,
                          const QuantizerOptions& options);

}  // namespace strata
