#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

#include "strata/vision/onnx.h"

namespace strata::vision {

// One node of an ONNX graph, made ready: attributes and constant arguments are read and checked, what is left
// is a function of its inputs, in the node's order. Inputs that are left out, and whole-number constants,
// come as undefined tensors.
using Operator = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

// Throws Error naming the node when its operator is unknown, an attribute is not supported, or an argument
// that must be constant (a shape, axes, bounds) is not.
Operator make_operator(const OnnxModel& model, const OnnxNode& node);

// The operators make_operator() knows, in alphabetical order.
std::vector<std::string> operator_names();

}  // namespace strata::vision
