#pragma once

#include <functional>
#include <string>
#include <vector>

#include "strata/core/matrix.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// Rows [first, first + count) of a matrix, which are quantized by themselves.
struct RowPiece {
  int64_t first = 0, count = 0;
};

// The pieces of a matrix of so many rows: of a fixed size, so that what is made of them does not depend on
// who makes which; all rows where the scheme stores something of the whole matrix.
std::vector<RowPiece> row_pieces(int64_t rows, const Scheme& scheme);

// Whether a scheme's rows are stored by themselves.
bool has_own_rows(const Scheme& scheme);

// The matrix that pieces make, in their order.
QuantizedMatrix join_rows(std::vector<QuantizedMatrix> pieces);

// Bytes of a piece of a scheme with rows of their own, to be handed to other ranks (core/ranks.h), and back.
std::string bytes_of(const QuantizedMatrix& piece);
QuantizedMatrix piece_from(const std::string& bytes, const Scheme& scheme, int64_t rows, int64_t cols);

// A matrix to be quantized: what makes a piece of its rows.
struct RowTask {
  MatrixView<const float> weights;
  Scheme scheme;
  std::function<QuantizedMatrix(MatrixView<const float> rows)> quantize;
};

// All of them, piece by piece. Pieces are dealt to the ranks, and every rank has the matrices in the end;
// those without rows of their own are made by each rank for itself.
std::vector<QuantizedMatrix> quantize_rows(const std::vector<RowTask>& tasks);

// The same for one, by this rank alone.
QuantizedMatrix quantize_rows(const RowTask& task);

// A calibrated quantizer whose work other ranks share: while rank 0 asks it for matrices, they help, after
// the same begin(), until all that was named is made.
class SharedQuantizer {
 public:
  virtual ~SharedQuantizer() = default;
  virtual void help() = 0;
};

}  // namespace strata
