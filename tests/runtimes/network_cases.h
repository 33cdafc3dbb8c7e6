#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/support/tiny_network.h"

namespace strata::vision {

// Small networks of the kinds that exporters write, on images [N, 4, 7, 6]: what runtimes must make of them
// as strata does, quantized too.
class NetworkCases {
 public:
  NetworkCases() {
    for (const int64_t axis : {0, 1, 2}) add_attention(axis);
    add_fixed_batch();
    for (const OnnxType type : {OnnxType::Float16, OnnxType::Double}) add_other_reals(type);
    add_half_weights();
    add_last_dropout();
    add_pixels();
    add_transposed_groups();
  }

  const std::vector<std::pair<std::string, OnnxModel>>& all() const { return cases_; }

 private:
  using Attributes = std::vector<OnnxAttribute>;

  // A convolution of 4 to 8 channels and a classifier of 10, with what `middle` makes of `b` in between.
  OnnxModel& add(const std::string& name, int64_t opset) {
    OnnxModel& model = cases_.emplace_back(name, OnnxModel()).second;
    model.path = name + ".onnx";
    model.opset = opset;
    model.inputs = {value("image", {-1, 4, 7, 6})};
    model.outputs = {value("y", {-1, 10})};
    constant(model, "stem.weight", {8, 4, 3, 3});
    constant(model, "stem.bias", {8});
    constant(model, "classifier.weight", {10, 8});
    constant(model, "classifier.bias", {10});
    model.nodes = {
        {"Conv", "stem", "", {"image", "stem.weight", "stem.bias"}, {"a"}, {ints("pads", {1, 1, 1, 1})}},
        {"Relu", "relu", "", {"a"}, {"b"}, {}},
        {"GlobalAveragePool", "pool", "", {"b"}, {"c"}, {}},
        {"Flatten", "flatten", "", {"c"}, {"d"}, {}},
        {"Gemm",
         "classifier",
         "",
         {"d", "classifier.weight", "classifier.bias"},
         {"y"},
         {whole("transB", 1)}}};
    return model;
  }

  void constant(OnnxModel& model, const std::string& name, std::vector<int64_t> shape) {
    add_constant(model, name, std::move(shape), random_, 0.5);
  }

  // Nodes between `b` and the pooling, which reads the last one's output.
  static void put_in(OnnxModel& model, std::vector<OnnxNode> nodes) {
    model.nodes[2].inputs = nodes.back().outputs;
    model.nodes.insert(model.nodes.begin() + 2, nodes.begin(), nodes.end());
  }

  // Softmax in operator set 11, over all axes from one on together; 0 says none, which is 1.
  void add_attention(int64_t axis) {
    OnnxModel& model = add("softmax_attention_" + std::to_string(axis), 11);
    constant(model, "attention.weight", {1, 8, 1, 1});
    model.constants.push_back(onnx_tensor("gain", {}, {40}));
    put_in(
        model,
        {{"Conv", "attention", "", {"b", "attention.weight"}, {"s"}, {}},
         {"Softmax", "softmax", "", {"s"}, {"p"}, axis == 0 ? Attributes{} : Attributes{whole("axis", axis)}},
         {"Mul", "gain", "", {"p", "gain"}, {"g"}, {}},
         {"Mul", "weigh", "", {"b", "g"}, {"weighed"}, {}}});
  }

  // Exported for one image, with a constant whose shape begins with one, too.
  void add_fixed_batch() {
    OnnxModel& model = add("fixed_batch", 13);
    model.inputs[0].shape[0] = model.outputs[0].shape[0] = 1;
    constant(model, "gates", {8});
    model.constants.push_back(onnx_integers("wide", OnnxType::Int64, {4}, {1, -1, 1, 1}));
    model.constants.push_back(onnx_integers("rows", OnnxType::Int64, {2}, {1, 8}));
    put_in(model, {{"Reshape", "spread", "", {"gates", "wide"}, {"g"}, {}},
                   {"Mul", "gate", "", {"b", "g"}, {"gated"}, {}}});
    model.nodes[5] = {"Reshape", "flatten", "", {"c", "rows"}, {"d"}, {}};
  }

  void add_other_reals(OnnxType type) {
    OnnxModel& model = add(type == OnnxType::Double ? "doubles" : "halves", 13);
    model.inputs[0].type = model.outputs[0].type = type;
    for (OnnxTensor& constant : model.constants) constant = retyped(constant, type);
  }

  void add_half_weights() {
    OnnxModel& model = add("half_weights", 13);
    for (const char* name : {"stem.weight", "classifier.weight"}) {
      OnnxTensor& stored = *model.constant(name);
      stored = retyped(stored, OnnxType::Float16);
      stored.name += ".half";
      model.nodes.insert(model.nodes.begin(), {"Cast", name, "", {stored.name}, {name}, {whole("to", 1)}});
    }
  }

  void add_last_dropout() {
    OnnxModel& model = add("last_dropout", 7);
    model.nodes.back().outputs = {"before"};
    model.nodes.push_back({"Dropout", "drop", "", {"before"}, {"y"}, {real("ratio", 0.3f)}});
  }

  void add_pixels() {
    OnnxModel& model = add("pixels", 13);
    OnnxTensor& weight = *model.constant("classifier.weight");
    weight = onnx_tensor(weight.name, {10, 8, 1, 1}, weight.floats());
    model.nodes.erase(model.nodes.begin() + 3);
    model.nodes.back() = {"Conv", "classifier", "", {"c", weight.name, "classifier.bias"}, {"y"}, {}};
    model.outputs = {value("y", {-1, 10, 1, 1})};
  }

  // A transposed convolution in groups, with the batch normalization behind it.
  void add_transposed_groups() {
    OnnxModel& model = add("transposed_groups", 13);
    constant(model, "up.weight", {8, 4, 2, 2});
    for (const char* name : {"scale", "shift", "mean"}) constant(model, name, {8});
    model.constants.push_back(onnx_tensor("variance", {8}, {0.5f, 1, 2, 3, 0.1f, 0.9f, 0.7f, 1.5f}));
    put_in(
        model,
        {{"ConvTranspose", "up", "", {"b", "up.weight"}, {"u"}, {ints("strides", {2, 2}), whole("group", 2)}},
         {"BatchNormalization", "norm", "", {"u", "scale", "shift", "mean", "variance"}, {"n"}, {}}});
  }

  static OnnxTensor retyped(const OnnxTensor& tensor, OnnxType type) {
    OnnxTensor result{tensor.name, type, tensor.shape, {}};
    for (float real : tensor.floats()) {
      if (type == OnnxType::Double) {
        const double wide = real;
        result.data.append(reinterpret_cast<const char*>(&wide), sizeof(wide));
      } else {
        const at::Half half(real);
        result.data.append(reinterpret_cast<const char*>(&half), sizeof(half));
      }
    }
    return result;
  }

  Random random_{21};
  std::vector<std::pair<std::string, OnnxModel>> cases_;
};

}  // namespace strata::vision
