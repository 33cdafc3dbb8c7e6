#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "strata/vision/node_arguments.h"

namespace strata::vision {

using Tensors = std::vector<at::Tensor>;

// What a node gives: for nearly all operators one tensor.
struct Outputs : Tensors {
  Outputs(at::Tensor one) : Tensors{std::move(one)} {}
  Outputs(Tensors several) : Tensors(std::move(several)) {}
};

// One node of an ONNX graph, made ready: attributes are read and checked, what is left is a function of its
// inputs, in the node's order. Inputs that are left out come as undefined tensors. Real numbers are float32,
// on the graph's device; whole numbers that say shapes, axes or places are on the CPU.
using Operator = std::function<Outputs(const Tensors&)>;

// Throws Error naming the node when its operator is unknown or an attribute is not supported.
Operator make_operator(const OnnxModel& model, const OnnxNode& node);

// The operators make_operator() knows, in alphabetical order.
std::vector<std::string> operator_names();

// The operators by kind, each table in a file NAME_operators.cpp. Semantics are those of the ONNX operator
// sets 7 to 23.
using OperatorMaker = Operator (*)(const NodeArguments&);
using OperatorTable = std::map<std::string, OperatorMaker>;
OperatorTable layer_operators();          // convolutions and products
OperatorTable elementwise_operators();    // element by element, of one or several tensors
OperatorTable comparison_operators();     // comparisons, logic and choices
OperatorTable pooling_operators();        // moving windows
OperatorTable normalization_operators();  // softmax and what normalizes
OperatorTable reduction_operators();      // over axes
OperatorTable shape_operators();          // what moves values around
OperatorTable shape_computations();       // shapes computed while the model runs
OperatorTable resize_operators();         // of images
OperatorTable code_operators();           // quantized models

}  // namespace strata::vision
