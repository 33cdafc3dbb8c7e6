#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "strata/quantization/mixed_rows.h"
#include "strata/quantization/nf4.h"
#include "strata/quantization/quantizer.h"

namespace strata {

// One matrix as a quantizer leaves it, in one of these forms; or a stack of matrices.
struct QuantizedMatrix {
  Scheme scheme;
  int64_t rows = 0, cols = 0;
  AffineMatrix affine;            // of affine schemes
  MixedRowsMatrix mixed;          // of schemes that mix rows
  std::vector<std::byte> blocks;  // of GGUF types, after stored_type(), row by row
  Nf4Matrix nf4;
  std::vector<QuantizedMatrix> parts;  // of a stack, of one scheme and size, one below the other

  void dequantize(float* weights) const;
};

// One below the other, as a stack of this many matrices.
QuantizedMatrix stack_of(std::vector<QuantizedMatrix> parts);

// Calls `see` with the matrix, or with every one of a stack.
template <class Matrix, class See>
void for_each_part(Matrix& matrix, const See& see) {
  if (matrix.parts.empty()) return see(matrix);
  for (auto& part : matrix.parts) see(part);
}

// Quantizes a whole matrix, or every one of a stack, without calibration. Throws as quantize_affine does.
QuantizedMatrix quantize_matrix(MatrixView<const float> weights, const Scheme& scheme,
                                const QuantizerOptions& options);

// A quantizer that looks at more than one matrix's weights: at what reaches the matrix when text runs through
// the model, and so at how the matrices before it were quantized. It works through the model layer by layer,
// in memory of about one layer; so it is told all schemes first, and its users ask in the order of the
// layers.
class CalibratedQuantizer {
 public:
  virtual ~CalibratedQuantizer() = default;

  // Starts over: these matrices of the model's layers, by their tensors' names, will be asked for in these
  // schemes; others keep their values. Throws if the model has no such matrix.
  virtual void begin(const std::map<std::string, Scheme>& schemes) = 0;

  // Hands out one of them, rows in the checkpoint's order, once. Within a layer any order will do; results of
  // a layer that was passed are kept until they are taken. Throws for a matrix that begin() did not name or
  // that has been taken.
  virtual QuantizedMatrix take(const std::string& tensor) = 0;

  // Whether it makes this matrix: one that begin() named, or embedding or head where it was made for them
  // too.
  virtual bool makes(const std::string& tensor) const = 0;
};

}  // namespace strata
