#include "strata/quantization/quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/gguf/codec.h"
#include "strata/quantization/affine.h"
#include "strata/quantization/mixed_rows.h"
#include "strata/quantization/nf4.h"

namespace strata {
namespace {

// Rows encoded and decoded together, few so that a thread holds little.
constexpr int64_t kRowsPerTask = 8;

void check_finite(const float* row, int64_t row_number, int64_t cols) {
  for (int64_t c = 0; c < cols; ++c)
    if (!std::isfinite(row[c]))
      fail("the weight in row {}, column {} is {}; a finite number was expected", row_number, c, row[c]);
}

double squared_distance(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum;
}

// Like round_affine, with the encoder and decoder of a GGUF type.
double round_gguf(MatrixView<const float> weights, GgufType asked, const float* importance, float* rounded) {
  if (weights.size() == 0) return 0;
  const GgufType type = stored_type(asked, weights.cols);
  const int64_t bytes = row_bytes(type, weights.cols);
  std::vector<double> squared_errors(static_cast<size_t>((weights.rows + kRowsPerTask - 1) / kRowsPerTask));
  parallel_for(weights.rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    for (int64_t r = begin; r < end; ++r) check_finite(weights.row(r), r, weights.cols);
    std::vector<std::byte> blocks(static_cast<size_t>(rows * bytes));
    std::vector<float> decoded(static_cast<size_t>(rows * weights.cols));
    encode_gguf(type, weights.row(begin), rows, weights.cols, importance, blocks.data());
    decode_gguf(type, blocks.data(), rows * weights.cols, decoded.data());
    squared_errors[begin / kRowsPerTask] =
        squared_distance(weights.row(begin), decoded.data(), rows * weights.cols);
    if (rounded) std::copy(decoded.begin(), decoded.end(), rounded + begin * weights.cols);
  });
  return std::accumulate(squared_errors.begin(), squared_errors.end(), 0.0);
}

double round_nf4(MatrixView<const float> weights, bool double_quantized, float* rounded) {
  std::vector<float> decoded(static_cast<size_t>(weights.size()));
  quantize_nf4(weights, double_quantized).dequantize(decoded.data());
  const double error = squared_distance(weights.data, decoded.data(), weights.size());
  if (rounded) std::copy(decoded.begin(), decoded.end(), rounded);
  return error;
}

double round_mixed_rows(MatrixView<const float> weights, const Scheme& scheme,
                        const QuantizerOptions& options, float* rounded) {
  std::vector<float> decoded(static_cast<size_t>(weights.size()));
  quantize_mixed_rows(weights, scheme, options).dequantize(decoded.data());
  const double error = squared_distance(weights.data, decoded.data(), weights.size());
  if (rounded) std::copy(decoded.begin(), decoded.end(), rounded);
  return error;
}

double round(MatrixView<const float> weights, const Scheme& scheme, const QuantizerOptions& options,
             float* rounded) {
  if (scheme.kind == Scheme::Kind::MixedRows) return round_mixed_rows(weights, scheme, options, rounded);
  if (scheme.kind == Scheme::Kind::Gguf) return round_gguf(weights, scheme.gguf, options.importance, rounded);
  if (scheme.kind == Scheme::Kind::Nf4) return round_nf4(weights, scheme.double_quantized, rounded);
  return round_affine(weights, scheme.affine, options, rounded);
}

double round_each(MatrixView<const float> weights, const Scheme& scheme, const QuantizerOptions& options,
                  float* rounded) {
  const int64_t rows = weights.rows / options.matrices;
  double error = 0;
  for (int64_t matrix = 0; matrix < options.matrices; ++matrix)
    error += round({weights.row(matrix * rows), rows, weights.cols}, scheme,
                   options_of_matrix(options, matrix, rows, weights.cols),
                   rounded == nullptr ? nullptr : rounded + matrix * rows * weights.cols);
  return error;
}

}  // namespace

QuantizerOptions options_of_matrix(const QuantizerOptions& options, int64_t matrix, int64_t rows,
                                   int64_t cols) {
  QuantizerOptions own = options;
  own.matrices = 1;
  if (own.importance != nullptr) own.importance += matrix * cols;
  if (own.row_impact != nullptr) own.row_impact += matrix * rows;
  return own;
}

double fake_quantize(MatrixView<float> weights, const Scheme& scheme, const QuantizerOptions& options) {
  return round_each(weights, scheme, options, weights.data);
}

double quantization_error(MatrixView<const float> weights, const Scheme& scheme,
                          const QuantizerOptions& options) {
  return round_each(weights, scheme, options, nullptr);
}

}  // namespace strata
