#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "strata/calibration/hidden_states.h"
#include "strata/model/model.h"

namespace strata {

// What a model's head reads at every position of some windows: its hidden states behind the final norm, from
// which its next-token distributions are one product away. The model runs once, layer by layer.
class Teacher {
 public:
  // ids [windows, length]; computed in `dtype` on the device. States that take much memory are kept as
  // HiddenStates keeps them.
  Teacher(const Model& model, const at::Tensor& ids, at::Device device, at::ScalarType dtype);

  at::Tensor normed(int64_t first, int64_t count) const;         // [count, length, d]
  at::Tensor normed(const std::vector<int64_t>& windows) const;  // the same of these windows

 private:
  HiddenStates states_;
};

// Mean squares of the features that the head reads at the positions of some windows: d values.
std::vector<float> mean_squares_of_head(const Model& model, const at::Tensor& ids, at::Device device);

}  // namespace strata
