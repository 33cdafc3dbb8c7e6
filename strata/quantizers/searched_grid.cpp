#include "strata/quantizers/searched_grid.h"

#include <algorithm>
#include <string>
#include <vector>

#include "strata/quantization/error_feedback.h"
#include "strata/quantization/mixed_rows.h"

namespace strata {
namespace {

// Rounding column by column without any feedback.
AffineMatrix search_affine(MatrixView<const float> weights, const AffineScheme& affine,
                           const float* mean_squares) {
  Scheme scheme;
  scheme.affine = affine;
  FeedbackOptions options;
  options.column_weights.assign(static_cast<size_t>(weights.cols), 1.0f);
  if (mean_squares != nullptr) options.column_weights.assign(mean_squares, mean_squares + weights.cols);
  const auto rounder = make_column_rounder(weights, scheme, options);
  const int64_t most = std::min(rounder->block_size(), weights.cols);
  std::vector<float> block(static_cast<size_t>(weights.rows * most)), errors(block.size());
  for (int64_t first = 0; first < weights.cols; first += most) {
    const int64_t count = std::min(most, weights.cols - first);
    for (int64_t row = 0; row < weights.rows; ++row)
      std::copy_n(weights.row(row) + first, count, block.data() + row * count);
    std::vector<float> identity(static_cast<size_t>(count * count));
    for (int64_t k = 0; k < count; ++k) identity[static_cast<size_t>(k * count + k)] = 1;
    rounder->round({first, count, block.data(), identity.data(), errors.data()});
  }
  return rounder->finish().affine;
}

}  // namespace

QuantizedMatrix search_grids(MatrixView<const float> weights, int64_t matrices, const Scheme& scheme,
                             const float* mean_squares, const float* row_impact) {
  const int64_t rows = weights.rows / matrices;
  std::vector<QuantizedMatrix> parts;
  for (int64_t matrix = 0; matrix < matrices; ++matrix)
    parts.push_back(search_grid({weights.row(matrix * rows), rows, weights.cols}, scheme,
                                mean_squares == nullptr ? nullptr : mean_squares + matrix * weights.cols,
                                row_impact == nullptr ? nullptr : row_impact + matrix * rows));
  return stack_of(std::move(parts));
}

QuantizedMatrix search_grid(MatrixView<const float> weights, const Scheme& scheme, const float* mean_squares,
                            const float* row_impact) {
  QuantizerOptions plain;
  plain.name = "rtn";
  plain.importance = mean_squares;
  plain.row_impact = row_impact;
  if (scheme.kind == Scheme::Kind::Gguf || scheme.kind == Scheme::Kind::Nf4)
    return quantize_matrix(weights, scheme, plain);
  QuantizedMatrix matrix;
  matrix.scheme = scheme;
  matrix.rows = weights.rows;
  matrix.cols = weights.cols;
  const auto search = [&](MatrixView<const float> rows, const AffineScheme& affine) {
    return search_affine(rows, affine, mean_squares);
  };
  if (scheme.kind == Scheme::Kind::Affine)
    matrix.affine = search(weights, scheme.affine);
  else
    matrix.mixed = quantize_rows_apart(weights, scheme, choose_high_rows(weights, scheme, plain), search);
  return matrix;
}

}  // namespace strata
