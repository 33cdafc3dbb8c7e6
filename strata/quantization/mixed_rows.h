#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "strata/quantization/quantizer.h"

namespace strata {

// A matrix of which some rows have more bits (Scheme::Kind::MixedRows, after arXiv 2511.17801).
struct MixedRowsMatrix {
  std::vector<int64_t> high_rows;  // rising
  AffineMatrix low, high;          // the other rows and these, each in the order of the matrix

  void dequantize(float* weights) const;  // rows in the matrix's order
};

// How much a row gains from more bits, by tensor; a value a row.
using RowImpacts = std::map<std::string, std::vector<float>>;

// The impacts of a tensor's rows, null where there are none; throws when there are not as many as rows.
const float* impacts_of(const RowImpacts& impacts, const std::string& tensor, int64_t rows);

// The `count` rows of the largest impact, rising; of equal impacts the first. Throws for an impact that is
// not finite.
std::vector<int64_t> high_rows(const std::vector<float>& impact, int64_t count);

// The rows that a scheme which mixes rows keeps at high bits: those of options.row_impact, or else those
// whose squared error falls the most when all of the matrix goes from low to high bits.
std::vector<int64_t> choose_high_rows(MatrixView<const float> weights, const Scheme& scheme,
                                      const QuantizerOptions& options);

// A matrix's rows, taken apart.
struct RowSplit {
  Matrix<float> low, high;
};

RowSplit split_rows(MatrixView<const float> weights, const std::vector<int64_t>& high_rows);

// Quantizes the rows of one part, of which there is at least one.
using PartQuantizer = std::function<AffineMatrix(MatrixView<const float> rows, const AffineScheme& scheme)>;

// These rows at high bits, the others at low bits, each part on its own.
MixedRowsMatrix quantize_rows_apart(MatrixView<const float> weights, const Scheme& scheme,
                                    std::vector<int64_t> high_rows, const PartQuantizer& quantize);

// The same without calibration, rows chosen by choose_high_rows. Throws as quantize_affine does.
MixedRowsMatrix quantize_mixed_rows(MatrixView<const float> weights, const Scheme& scheme,
                                    const QuantizerOptions& options);

}  // namespace strata
