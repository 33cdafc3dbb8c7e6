#include "strata/quantization/calibrated_quantizer.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/gguf/codec.h"

namespace strata {

void QuantizedMatrix::dequantize(float* weights) const {
  for (const QuantizedMatrix& part : parts) {
    part.dequantize(weights);
    weights += part.rows * part.cols;
  }
  if (!parts.empty()) return;
  if (scheme.kind == Scheme::Kind::Affine) return affine.dequantize(weights);
  if (scheme.kind == Scheme::Kind::MixedRows) return mixed.dequantize(weights);
  if (scheme.kind == Scheme::Kind::Nf4) return nf4.dequantize(weights);
  decode_gguf(stored_type(scheme.gguf, cols), blocks.data(), rows * cols, weights);
}

QuantizedMatrix stack_of(std::vector<QuantizedMatrix> parts) {
  QuantizedMatrix stack;
  stack.scheme = parts.front().scheme;
  stack.rows = parts.front().rows * static_cast<int64_t>(parts.size());
  stack.cols = parts.front().cols;
  stack.parts = std::move(parts);
  return stack;
}

QuantizedMatrix quantize_matrix(MatrixView<const float> weights, const Scheme& scheme,
                                const QuantizerOptions& options) {
  if (options.matrices > 1) {
    const int64_t rows = weights.rows / options.matrices;
    std::vector<QuantizedMatrix> parts;
    for (int64_t part = 0; part < options.matrices; ++part)
      parts.push_back(quantize_matrix({weights.row(part * rows), rows, weights.cols}, scheme,
                                      options_of_matrix(options, part, rows, weights.cols)));
    return stack_of(std::move(parts));
  }
  QuantizedMatrix matrix;
  matrix.scheme = scheme;
  matrix.rows = weights.rows;
  matrix.cols = weights.cols;
  if (scheme.kind == Scheme::Kind::Affine) {
    matrix.affine = quantize_affine(weights, scheme.affine, options);
    return matrix;
  }
  if (scheme.kind == Scheme::Kind::MixedRows) {
    matrix.mixed = quantize_mixed_rows(weights, scheme, options);
    return matrix;
  }
  if (scheme.kind == Scheme::Kind::Nf4) {
    matrix.nf4 = quantize_nf4(weights, scheme.double_quantized);
    return matrix;
  }
  const float* end = weights.data + weights.size();
  const float* bad = std::find_if(weights.data, end, [](float w) { return !std::isfinite(w); });
  if (bad != end)
    fail("the weight in row {}, column {} is {}; a finite number was expected",
         (bad - weights.data) / weights.cols, (bad - weights.data) % weights.cols, *bad);
  const GgufType type = stored_type(scheme.gguf, weights.cols);
  matrix.blocks.resize(static_cast<size_t>(weights.rows * row_bytes(type, weights.cols)));
  encode_gguf(type, weights.data, weights.rows, weights.cols, options.importance, matrix.blocks.data());
  return matrix;
}

}  // namespace strata
