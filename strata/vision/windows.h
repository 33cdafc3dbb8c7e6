#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "strata/vision/node_arguments.h"

namespace strata::vision {

// How a window of one to three dimensions moves over maps [N, C, ...]: the attributes that convolutions and
// poolings share.
struct Window {
  std::vector<int64_t> kernel, strides, dilations;
  std::vector<int64_t> pads;  // before every dimension, then behind every dimension
  enum class AutoPad { None, SameUpper, SameLower } auto_pad = AutoPad::None;

  size_t dimensions() const { return kernel.size(); }
  std::vector<int64_t> pads_for(const at::Tensor& maps) const;  // as pads
};

// Whether every dimension has as much padding before as behind it.
bool is_symmetric(const std::vector<int64_t>& pads);

// Reads them; `kernel` is the weight's for a convolution, and empty for a pooling, which says its own.
Window read_window(const NodeArguments& arguments, std::vector<int64_t> kernel);

// Pads the last dimensions of maps by `pads`, in the order of Window::pads.
at::Tensor pad_maps(const at::Tensor& maps, const std::vector<int64_t>& pads, double value);

}  // namespace strata::vision
