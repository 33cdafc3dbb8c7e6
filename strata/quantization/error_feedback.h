#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "strata/core/matrix.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// Rounding column by column, each column's error made up for by the columns after it: the inner loop of GPTQ
// (Frantar et al. 2022, arXiv 2210.17323, algorithm 1).

// When the scales of affine groups are decided.
enum class GroupScales {
  AsReached,  // with a group's first column, from its weights as the errors of earlier columns left them
  Static,     // before the first column, from the weights as given
};

struct FeedbackOptions {
  // The columns in the order in which they are quantized; empty = left to right. In another order, groups are
  // still of neighbouring columns with Static scales, and of columns that follow each other in this order
  // with AsReached ones, which AffineMatrix::group_of_column then tells.
  std::vector<int64_t> order;
  GroupScales scales = GroupScales::AsReached;
  // How much an error in each column (as numbered in the matrix) matters when scales are chosen; cols values,
  // not negative.
  std::vector<float> column_weights;
};

// Some columns that follow each other in the order of quantization.
struct FeedbackBlock {
  int64_t first = 0, count = 0;    // places in that order
  const float* weights = nullptr;  // [rows, count] as earlier columns left them
  const float* factor = nullptr;   // [count, count]: these rows and columns of the factor U of H^-1 = U^T U
  float* errors = nullptr;         // [rows, count], to be written: (w - w') / U_kk
};

class ColumnRounder {
 public:
  virtual ~ColumnRounder() = default;
  virtual int64_t block_size() const = 0;              // columns in a block; the last has the rest
  virtual void round(const FeedbackBlock& block) = 0;  // blocks come in order
  virtual QuantizedMatrix finish() = 0;                // once, after the last block
};

// A rounder for any scheme but those that mix rows, whose parts are rounded apart. GGUF types go left to
// right: their scales lie in blocks of neighbouring columns. Schemes whose scales are stored over the whole
// matrix (second level) or across rows (axis 0) take HQQ's as static ones. Throws where a weight is not
// finite, or for an order that the scheme cannot follow. The weights must outlive it.
std::unique_ptr<ColumnRounder> make_column_rounder(MatrixView<const float> weights, const Scheme& scheme,
                                                   const FeedbackOptions& options);

// One tile of 16 rows, column k at values + 16 k: subtracts errors[i] * factor[k] from row i of column k.
void spread_errors(const float errors[16], const float* factor, int64_t count, float* values);

}  // namespace strata
