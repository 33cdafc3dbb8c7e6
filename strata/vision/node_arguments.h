#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strata/vision/onnx.h"

namespace strata::vision {

// Attributes and constant inputs of one node, with errors that name the file and the node.
class NodeArguments {
 public:
  NodeArguments(const OnnxModel& model, const OnnxNode& node) : model_(model), node_(node) {}

  int64_t integer(const char* name, int64_t missing) const;
  float real(const char* name, float missing) const;
  std::string text(const char* name, const std::string& missing) const;
  std::vector<int64_t> integers(const char* name, std::vector<int64_t> missing) const;

  bool has_input(size_t index) const;
  // A constant input; throws when it is left out or computed.
  const OnnxTensor& constant(size_t index, const char* what) const;
  float scalar(size_t index, const char* what) const;
  bool is_constant(size_t index) const;
  // Refuses an input that is a constant of real numbers where a shape or the like is expected.
  void expect_whole_numbers(size_t index, const char* what) const;

  // Images that the model was exported for, where it says a number and input `index` is computed from them;
  // -1 otherwise. Such a model is run on any number: where a constant shape begins with that number, the
  // number at hand stands in its place.
  int64_t fixed_batch_of_input(size_t index) const;

  void expect_inputs(size_t least, size_t most) const;
  [[noreturn]] void refuse(const std::string& reason) const;  // "FILE: Conv 'x' REASON"

  int64_t opset() const { return model_.opset; }
  const OnnxModel& model() const { return model_; }
  const OnnxNode& node() const { return node_; }

 private:
  const OnnxModel& model_;
  const OnnxNode& node_;
};

}  // namespace strata::vision
