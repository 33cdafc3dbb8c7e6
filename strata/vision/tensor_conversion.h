#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "strata/vision/onnx.h"

namespace strata::vision {

// Whether an operator may write its result over an input: real numbers that nothing else holds, each in a
// place of its own, without gradients.
bool is_free(const at::Tensor& input);

// A constant as a tensor on the CPU: real numbers as float32, whole numbers in their own type, 4 bits as
// int8.
at::Tensor to_tensor(const OnnxTensor& constant);

// The reverse. Real numbers become float32.
OnnxTensor to_constant(const std::string& name, const at::Tensor& tensor);

// Whole numbers of a tensor, such as a shape or a list of axes.
std::vector<int64_t> integers_of(const at::Tensor& tensor);

// 0, 1, 2, ... for every dimension.
std::vector<int64_t> all_axes(const at::Tensor& tensor);

// LibTorch's type for values of a type: float32 for all real ones, which the graph is computed in.
at::ScalarType scalar_type_of(OnnxType type);

// All tensors on one device: where one is not on the CPU, on its.
std::vector<at::Tensor> on_one_device(std::vector<at::Tensor> tensors);

// Real numbers rounded to a type and back to float32.
at::Tensor round_to_type(const at::Tensor& values, OnnxType type);

}  // namespace strata::vision
