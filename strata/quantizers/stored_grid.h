#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "strata/quantization/calibrated_quantizer.h"
#include "strata/quantizers/group_layout.h"

namespace strata {

// The floats that a grid stores, as float32 numbers that fp16 can hold. Groups share a `scale` and what
// stands beside it in blocks: the sub-blocks of a GGUF block, the groups whose 8-bit scales have one range,
// or a group alone.
struct GridFloats {
  at::Tensor scale;          // [blocks, 1]: the scale of an affine group, d, the step of 8-bit scales
  at::Tensor scale_minimum;  // [blocks, 1]: of 8-bit scales; undefined in others
  at::Tensor zero;           // [groups, 1], or [1, 1] where all have the same
  at::Tensor minimum;        // [blocks, 1]: dmin, or -m; undefined where nothing is taken off
};

// A quantized matrix whose weights have codes of their own, opened for learning. With what a code stands for
// (itself, but in a few types), every weight is
//   w = step (level(code) - zero) - offset,   step = scale unit + scale_minimum,   offset = minimum min_unit.
struct StoredGrid {
  GroupLayout layout;
  int64_t groups_per_block = 1;  // the last block may have fewer
  int largest_code = 0;
  at::Tensor codes;           // [groups, length] uint8, in the layout's order
  at::Tensor level_of_code;   // [256] float; undefined where a code is its level
  at::Tensor unit, min_unit;  // [groups, 1]: integers that are stored and stay; undefined: all 1
  GridFloats floats;
  bool float_zeros = false;  // zero points are fp16 numbers that may be learned; otherwise they stay

  at::Device device() const { return codes.device(); }
};

// A step and an offset for every group, [groups, 1], from floats that need not be the grid's own; autograd
// goes through them. No offset: undefined.
at::Tensor steps_of(const StoredGrid& grid, const GridFloats& floats);
at::Tensor offsets_of(const StoredGrid& grid, const GridFloats& floats);

// The matrix [rows, cols] in float32 under these floats, which autograd goes through; equal to what
// dequantize() gives where they are the grid's own. What is kept for the backward pass is the codes.
at::Tensor weights_of(const StoredGrid& grid, const GridFloats& floats);

// The floats as the grid stores them: the nearest fp16 numbers, of scales none that becomes zero; zero points
// that may not be learned stay. Without gradients.
GridFloats as_stored(const StoredGrid& grid, const GridFloats& floats);

// A matrix as its grids: one, or, where a scheme mixes rows, those of the rows at low and at high bits, of
// which either may be missing; of a stack those of all its matrices.
struct OpenedMatrix {
  std::vector<StoredGrid> parts;
  at::Tensor place_of_row;  // [rows] int64: where a row stands among the parts' rows; undefined: in order
};

// Whether rows of so many columns have a grid in this scheme: affine schemes, those that mix rows, and GGUF
// types with codes of their own. NF4, the IQ types but IQ4_NL, and floats have none.
bool has_grid(const Scheme& scheme, int64_t cols);

// Opens a matrix whose scheme has a grid, with tensors on the device.
OpenedMatrix open_grid(const QuantizedMatrix& matrix, at::Device device = at::kCPU);

// Puts codes and floats, rounded by as_stored(), into the matrix that was opened. What was opened and not
// changed is closed to the same bytes.
void close_grid(const OpenedMatrix& opened, QuantizedMatrix& matrix);

// Rows in the matrix's order from the weights of each part [rows of the part, cols], and back; autograd goes
// through them.
at::Tensor join_rows(const OpenedMatrix& opened, const std::vector<at::Tensor>& parts);
std::vector<at::Tensor> part_rows(const OpenedMatrix& opened, const at::Tensor& matrix);

}  // namespace strata
