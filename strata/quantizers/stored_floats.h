#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "strata/quantizers/stored_grid.h"

namespace strata {

// A quantized matrix with frozen codes, whose stored floats are learned. Its parameters start at 1 and 0:
// factors of scales (d, the step and minimum of 8-bit scales) and of minimums (dmin, -m), and what is added
// to zero points where these are floats.
class StoredFloats {
 public:
  // The matrix's scheme has a grid (has_grid).
  StoredFloats(QuantizedMatrix matrix, at::Device device);

  // Leaves of autograd in float32, which may be given other memory (set_data).
  const std::vector<at::Tensor>& parameters() const { return parameters_; }

  // What the parameters make of the matrix, [rows, cols] float32; differentiable by them.
  at::Tensor weights() const;

  // The same with floats rounded as they are stored, without gradients: what stored() dequantizes to.
  at::Tensor stored_weights() const;

  // As it would be stored now.
  QuantizedMatrix stored() const;

 private:
  // Which parameters belong to a part; -1: it has no such float.
  struct Part {
    int scale = -1, scale_minimum = -1, zero = -1, minimum = -1;
  };

  int add(const at::Tensor& like, double start);
  GridFloats floats_of(size_t part) const;

  QuantizedMatrix matrix_;
  OpenedMatrix opened_;
  std::vector<Part> parts_;
  std::vector<at::Tensor> parameters_;
};

}  // namespace strata
