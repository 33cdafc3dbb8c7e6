#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "strata/core/random.h"
#include "strata/vision/onnx.h"

namespace strata::vision {

inline std::vector<float> random_values(int64_t count, Random& random, double scale = 1) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(scale * random.normal()));
  return values;
}

inline int64_t product(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

inline OnnxAttribute ints(const std::string& name, std::vector<int64_t> values) {
  OnnxAttribute attribute;
  attribute.name = name;
  attribute.kind = OnnxAttribute::Kind::Ints;
  attribute.integers = std::move(values);
  return attribute;
}

inline OnnxAttribute whole(const std::string& name, int64_t value) {
  OnnxAttribute attribute;
  attribute.name = name;
  attribute.kind = OnnxAttribute::Kind::Int;
  attribute.integer = value;
  return attribute;
}

inline OnnxAttribute real(const std::string& name, float value) {
  OnnxAttribute attribute;
  attribute.name = name;
  attribute.kind = OnnxAttribute::Kind::Float;
  attribute.real = value;
  return attribute;
}

inline OnnxAttribute word(const std::string& name, const std::string& value) {
  OnnxAttribute attribute;
  attribute.name = name;
  attribute.kind = OnnxAttribute::Kind::String;
  attribute.text = value;
  return attribute;
}

inline OnnxValueInfo value(const std::string& name, std::vector<int64_t> shape) {
  OnnxValueInfo info;
  info.name = name;
  info.shape = std::move(shape);
  info.dimensions.resize(info.shape.size());
  info.has_shape = true;
  return info;
}

inline void add_constant(OnnxModel& model, const std::string& name, std::vector<int64_t> shape,
                         Random& random, double scale = 1) {
  model.constants.push_back(onnx_tensor(name, shape, random_values(product(shape), random, scale)));
}

// Images of 3 x 8 x 8 through a convolution, a residual block with a depthwise convolution and ReLU6, and a
// classifier of 5: every kind of layer once.
inline OnnxModel tiny_network(uint64_t seed = 1) {
  Random random(seed);
  OnnxModel model;
  model.path = "tiny.onnx";
  model.inputs = {value("image", {-1, 3, 8, 8})};
  model.outputs = {value("logits", {-1, 5})};
  add_constant(model, "stem.weight", {6, 3, 3, 3}, random, 0.4);
  add_constant(model, "stem.bias", {6}, random, 0.2);
  add_constant(model, "depthwise.weight", {6, 1, 3, 3}, random, 0.5);
  add_constant(model, "depthwise.bias", {6}, random, 0.2);
  add_constant(model, "project.weight", {6, 6, 1, 1}, random, 0.5);
  add_constant(model, "project.bias", {6}, random, 0.2);
  add_constant(model, "classifier.weight", {5, 6}, random, 1);
  add_constant(model, "classifier.bias", {5}, random, 0.1);
  model.constants.push_back(onnx_tensor("zero", {}, {0}));
  model.constants.push_back(onnx_tensor("six", {}, {6}));
  model.nodes = {
      {"Conv", "stem", "", {"image", "stem.weight", "stem.bias"}, {"a"}, {ints("pads", {1, 1, 1, 1})}},
      {"Relu", "relu", "", {"a"}, {"b"}, {}},
      {"Conv",
       "depthwise",
       "",
       {"b", "depthwise.weight", "depthwise.bias"},
       {"c"},
       {ints("pads", {1, 1, 1, 1}), whole("group", 6)}},
      {"Clip", "relu6", "", {"c", "zero", "six"}, {"d"}, {}},
      {"Conv", "project", "", {"d", "project.weight", "project.bias"}, {"e"}, {}},
      {"Add", "add", "", {"e", "b"}, {"f"}, {}},
      {"GlobalAveragePool", "pool", "", {"f"}, {"g"}, {}},
      {"Flatten", "flatten", "", {"g"}, {"h"}, {}},
      {"Gemm",
       "classifier",
       "",
       {"h", "classifier.weight", "classifier.bias"},
       {"logits"},
       {whole("transB", 1)}},
  };
  return model;
}

// The same with a convolution on the block's shortcut, behind those of its other branch.
inline OnnxModel tiny_network_with_shortcut() {
  OnnxModel model = tiny_network();
  Random random(9);
  add_constant(model, "shortcut.weight", {6, 6, 1, 1}, random, 0.5);
  add_constant(model, "shortcut.bias", {6}, random, 0.2);
  const auto add = std::find_if(model.nodes.begin(), model.nodes.end(),
                                [](const OnnxNode& node) { return node.op_type == "Add"; });
  add->inputs = {"e", "s"};
  model.nodes.insert(add, {"Conv", "shortcut", "", {"b", "shortcut.weight", "shortcut.bias"}, {"s"}, {}});
  return model;
}

}  // namespace strata::vision
