#include "strata/quantization/mixed_rows.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "strata/core/error.h"
#include "strata/quantization/affine.h"

namespace strata {
namespace {

// Calls step(row, is high, place in its part) for every row.
template <class Step>
void for_each_row(int64_t rows, const std::vector<int64_t>& high_rows, const Step& step) {
  size_t next = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const bool is_high = next < high_rows.size() && high_rows[next] == r;
    step(r, is_high, is_high ? static_cast<int64_t>(next) : r - static_cast<int64_t>(next));
    if (is_high) ++next;
  }
}

// sum (w - w')^2 of every row.
std::vector<double> row_errors(MatrixView<const float> weights, const AffineScheme& scheme,
                               const QuantizerOptions& options) {
  std::vector<float> rounded(static_cast<size_t>(weights.size()));
  round_affine(weights, scheme, options, rounded.data());
  std::vector<double> errors(static_cast<size_t>(weights.rows));
  for (int64_t r = 0; r < weights.rows; ++r)
    for (int64_t c = 0; c < weights.cols; ++c) {
      const double difference = static_cast<double>(weights.row(r)[c]) - rounded[r * weights.cols + c];
      errors[r] += difference * difference;
    }
  return errors;
}

AffineMatrix quantize_part(const Matrix<float>& part, const AffineScheme& scheme,
                           const PartQuantizer& quantize) {
  if (part.rows > 0) return quantize(part.view(), scheme);
  AffineMatrix empty;
  empty.scheme = scheme;
  empty.cols = part.cols;
  return empty;
}

std::vector<float> dequantized(const AffineMatrix& part) {
  std::vector<float> values(part.codes.size());
  if (part.rows > 0) part.dequantize(values.data());
  return values;
}

}  // namespace

void MixedRowsMatrix::dequantize(float* weights) const {
  const std::vector<float> low_values = dequantized(low), high_values = dequantized(high);
  const int64_t cols = low.cols;
  for_each_row(low.rows + high.rows, high_rows, [&](int64_t row, bool is_high, int64_t place) {
    std::copy_n((is_high ? high_values : low_values).data() + place * cols, cols, weights + row * cols);
  });
}

const float* impacts_of(const RowImpacts& impacts, const std::string& tensor, int64_t rows) {
  const auto found = impacts.find(tensor);
  if (found == impacts.end()) return nullptr;
  if (static_cast<int64_t>(found->second.size()) != rows)
    fail("{} impacts of rows were given for {}, which has {} rows", found->second.size(), tensor, rows);
  return found->second.data();
}

std::vector<int64_t> high_rows(const std::vector<float>& impact, int64_t count) {
  const auto rows = static_cast<int64_t>(impact.size());
  if (count < 0 || count > rows) fail("{} of {} rows were to be kept at high bits", count, rows);
  for (int64_t r = 0; r < rows; ++r)
    if (!std::isfinite(impact[r]))
      fail("the impact of row {} is {}; a finite number was expected", r, impact[r]);
  std::vector<int64_t> chosen(impact.size());
  std::iota(chosen.begin(), chosen.end(), 0);
  std::nth_element(chosen.begin(), chosen.begin() + count, chosen.end(), [&](int64_t a, int64_t b) {
    return impact[a] != impact[b] ? impact[a] > impact[b] : a < b;
  });
  chosen.resize(static_cast<size_t>(count));
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<int64_t> choose_high_rows(MatrixView<const float> weights, const Scheme& scheme,
                                      const QuantizerOptions& options) {
  const int64_t count = scheme.high_row_count(weights.rows);
  std::vector<float> impact(static_cast<size_t>(weights.rows));
  if (options.row_impact != nullptr) {
    std::copy_n(options.row_impact, weights.rows, impact.data());
  } else if (count > 0 && count < weights.rows) {
    const std::vector<double> low = row_errors(weights, scheme.affine, options);
    const std::vector<double> high = row_errors(weights, scheme.high_affine(), options);
    for (size_t r = 0; r < impact.size(); ++r) impact[r] = static_cast<float>(low[r] - high[r]);
  }
  return high_rows(impact, count);
}

RowSplit split_rows(MatrixView<const float> weights, const std::vector<int64_t>& high_rows) {
  const auto high_count = static_cast<int64_t>(high_rows.size());
  RowSplit split{{weights.rows - high_count, weights.cols}, {high_count, weights.cols}};
  for_each_row(weights.rows, high_rows, [&](int64_t row, bool is_high, int64_t place) {
    std::copy_n(weights.row(row), weights.cols, (is_high ? split.high : split.low).row(place));
  });
  return split;
}

MixedRowsMatrix quantize_rows_apart(MatrixView<const float> weights, const Scheme& scheme,
                                    std::vector<int64_t> high_rows, const PartQuantizer& quantize) {
  const RowSplit split = split_rows(weights, high_rows);
  MixedRowsMatrix matrix;
  matrix.high_rows = std::move(high_rows);
  matrix.low = quantize_part(split.low, scheme.affine, quantize);
  matrix.high = quantize_part(split.high, scheme.high_affine(), quantize);
  return matrix;
}

MixedRowsMatrix quantize_mixed_rows(MatrixView<const float> weights, const Scheme& scheme,
                                    const QuantizerOptions& options) {
  return quantize_rows_apart(weights, scheme, choose_high_rows(weights, scheme, options),
                             [&](MatrixView<const float> rows, const AffineScheme& affine) {
                               return quantize_affine(rows, affine, options);
                             });
}

}  // namespace strata
