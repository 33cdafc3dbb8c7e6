#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <vector>

#include "strata/vision/node_arguments.h"

namespace strata::vision {

// How a two-dimensional window moves over an image: the attributes that convolutions and poolings share.
struct Window {
  std::array<int64_t, 2> kernel{1, 1}, strides{1, 1}, dilations{1, 1};
  std::array<int64_t, 4> pads{0, 0, 0, 0};  // top, left, bottom, right
  enum class AutoPad { None, SameUpper, SameLower } auto_pad = AutoPad::None;

  std::array<int64_t, 4> pads_for(int64_t height, int64_t width) const;
};

// Reads them; `kernel` is the weight's for a convolution, and empty for a pooling, which says its own.
Window read_window(const NodeArguments& arguments, std::vector<int64_t> kernel);

// Pads an image [N, C, H, W] by top, left, bottom, right.
at::Tensor pad_image(const at::Tensor& image, const std::array<int64_t, 4>& pads, double value);

}  // namespace strata::vision
