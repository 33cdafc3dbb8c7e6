#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/support/tiny_network.h"

namespace strata::vision {

// Small models with one operator each, behind a 1 x 1 convolution that makes `x` [N, 4, 7, 6] from the images
// [N, 4, 7, 6] (and `h` [N, 168], its rows, where an operator takes those).
class OperatorCases {
 public:
  struct Case {
    std::string name;
    OnnxModel model;
  };

  OperatorCases() {
    add_windows();
    add_products();
    add_elementwise();
    add_reductions();
    add_shapes();
    add_codes();
  }

  const std::vector<Case>& all() const { return cases_; }

 private:
  using Attributes = std::vector<OnnxAttribute>;

  // A case whose node reads x and the constants that `finish` adds.
  OnnxModel& add(const std::string& name, const std::string& op, std::vector<std::string> inputs,
                 Attributes attributes = {}, int64_t opset = 17) {
    Case& added = cases_.emplace_back();
    added.name = name;
    OnnxModel& model = added.model;
    model.path = name + ".onnx";
    model.opset = opset;
    model.ir_version = opset > 20 ? 10 : 8;
    model.inputs = {value("image", {-1, 4, 7, 6})};
    OnnxValueInfo output;
    output.name = "y";
    model.outputs = {output};
    add_constant(model, "mix.weight", {4, 4, 1, 1}, random_);
    add_constant(model, "mix.bias", {4}, random_);
    model.nodes = {{"Conv", "mix", "", {"image", "mix.weight", "mix.bias"}, {"x"}, {}}};
    bool rows = false;
    for (const std::string& input : inputs) rows |= input == "h";
    if (rows) model.nodes.push_back({"Flatten", "rows", "", {"x"}, {"h"}, {}});
    model.nodes.push_back({op, "tested", "", std::move(inputs), {"y"}, std::move(attributes)});
    return model;
  }

  void numbers(OnnxModel& model, const std::string& name, std::vector<int64_t> shape, double scale = 1) {
    add_constant(model, name, std::move(shape), random_, scale);
  }

  static void whole_numbers(OnnxModel& model, const std::string& name, const std::vector<int64_t>& values) {
    model.constants.push_back(
        onnx_integers(name, OnnxType::Int64, {static_cast<int64_t>(values.size())}, values));
  }

  void add_windows() {
    const auto conv = [&](const std::string& name, std::vector<int64_t> shape, Attributes attributes) {
      OnnxModel& model = add("conv_" + name, "Conv", {"x", "w", "b"}, std::move(attributes));
      const int64_t outputs = shape[0];
      numbers(model, "w", std::move(shape));
      numbers(model, "b", {outputs});
    };
    conv("plain", {5, 4, 3, 2}, {});
    conv("groups", {6, 2, 3, 3}, {whole("group", 2), ints("pads", {1, 1, 1, 1})});
    conv("depthwise", {8, 1, 3, 3}, {whole("group", 4), ints("strides", {2, 1})});
    conv("strides", {3, 4, 3, 3}, {ints("strides", {2, 3}), ints("pads", {1, 0, 1, 0})});
    conv("dilations", {3, 4, 2, 3}, {ints("dilations", {3, 2}), ints("pads", {2, 1, 2, 1})});
    conv("uneven_pads", {3, 4, 3, 3}, {ints("pads", {0, 2, 1, 1}), ints("strides", {2, 2})});
    conv("same_upper", {3, 4, 4, 3}, {word("auto_pad", "SAME_UPPER"), ints("strides", {2, 2})});
    conv("same_lower", {3, 4, 4, 3}, {word("auto_pad", "SAME_LOWER"), ints("strides", {2, 2})});
    conv("valid", {3, 4, 4, 3}, {word("auto_pad", "VALID"), ints("strides", {2, 1})});
    numbers(add("conv_no_bias", "Conv", {"x", "w"}), "w", {3, 4, 1, 1});

    const OnnxAttribute kernel = ints("kernel_shape", {3, 2}), two = ints("strides", {2, 2});
    for (const char* op : {"MaxPool", "AveragePool"}) {
      const std::string name = op;
      add(name + "_plain", op, {"x"}, {kernel});
      add(name + "_pads", op, {"x"}, {kernel, two, ints("pads", {1, 1, 1, 1})});
      add(name + "_uneven_pads", op, {"x"}, {kernel, two, ints("pads", {0, 1, 1, 0})});
      const OnnxAttribute other = ints("kernel_shape", {2, 3}), ceil = whole("ceil_mode", 1);
      add(name + "_ceil", op, {"x"}, {other, two, ceil});
      add(name + "_ceil_pads", op, {"x"}, {other, two, ceil, ints("pads", {1, 0, 1, 0})});
      add(name + "_ceil_uneven_pads", op, {"x"}, {other, two, ceil, ints("pads", {0, 1, 1, 0})});
      add(name + "_same_upper", op, {"x"}, {kernel, two, word("auto_pad", "SAME_UPPER")});
      add(name + "_same_lower", op, {"x"}, {kernel, two, word("auto_pad", "SAME_LOWER")});
    }
    add("MaxPool_dilations", "MaxPool", {"x"}, {kernel, ints("dilations", {2, 3})});
    add("AveragePool_counts_pads", "AveragePool", {"x"},
        {kernel, two, ints("pads", {1, 1, 1, 1}), whole("count_include_pad", 1)});
    add("AveragePool_counts_uneven_pads", "AveragePool", {"x"},
        {kernel, two, ints("pads", {0, 1, 2, 0}), whole("count_include_pad", 1)});
    add("GlobalAveragePool", "GlobalAveragePool", {"x"});
  }

  void add_products() {
    const auto gemm = [&](const std::string& name, std::vector<int64_t> shape, std::vector<int64_t> bias,
                          Attributes attributes) {
      OnnxModel& model = add("gemm_" + name, "Gemm", {"h", "w", "b"}, std::move(attributes));
      numbers(model, "w", std::move(shape), 0.1);
      numbers(model, "b", std::move(bias));
    };
    gemm("plain", {168, 5}, {5}, {});
    gemm("transposed", {5, 168}, {5}, {whole("transB", 1)});
    gemm("factors", {5, 168}, {1, 5}, {whole("transB", 1), real("alpha", 0.5f)});
    numbers(add("gemm_no_bias", "Gemm", {"h", "w"}, {real("alpha", 2)}), "w", {168, 3}, 0.1);
    numbers(add("matmul_rows", "MatMul", {"h", "w"}), "w", {168, 5}, 0.1);
    numbers(add("matmul_batched", "MatMul", {"x", "w"}), "w", {6, 5});
    numbers(add("matmul_stack", "MatMul", {"x", "w"}), "w", {4, 6, 2});
  }

  void add_elementwise() {
    for (const char* op : {"Relu", "Sigmoid", "HardSwish", "Identity", "Dropout"}) add(op, op, {"x"});
    add("HardSigmoid", "HardSigmoid", {"x"});
    add("HardSigmoid_slope", "HardSigmoid", {"x"}, {real("alpha", 1.0f / 6), real("beta", 0.3f)});
    OnnxModel& clip = add("Clip", "Clip", {"x", "low", "high"});
    clip.constants.push_back(onnx_tensor("low", {}, {-0.3f}));
    clip.constants.push_back(onnx_tensor("high", {}, {0.8f}));
    add("Clip_high", "Clip", {"x", "", "high"}).constants.push_back(onnx_tensor("high", {}, {0.5f}));
    add("Clip_attributes", "Clip", {"x"}, {real("min", 0), real("max", 0.6f)}, 10);
    for (const char* op : {"Add", "Sub", "Mul", "Div", "Min", "Max"}) {
      const std::string name = op;
      add(name + "_itself", op, {"x", "image"});
      numbers(add(name + "_scalar", op, {"x", "c"}), "c", {});
      numbers(add(name + "_channels", op, {"x", "c"}), "c", {4, 1, 1});
      numbers(add(name + "_first", op, {"c", "x"}), "c", {1, 1, 7, 1});
    }
    numbers(add("Min_of_three", "Min", {"x", "c", "image"}), "c", {6});
    OnnxModel& normalization = add("BatchNormalization", "BatchNormalization",
                                   {"r", "scale", "shift", "mean", "variance"}, {real("epsilon", 0.01f)});
    OnnxModel& folded =
        add("BatchNormalization_folded", "BatchNormalization", {"x", "scale", "shift", "mean", "variance"});
    normalization.nodes.insert(normalization.nodes.begin() + 1, {"Relu", "relu", "", {"x"}, {"r"}, {}});
    for (OnnxModel* model : {&normalization, &folded}) {
      for (const char* name : {"scale", "shift", "mean"}) numbers(*model, name, {4});
      model->constants.push_back(onnx_tensor("variance", {4}, {0.2f, 1, 3, 0.05f}));
    }
    for (const int64_t axis : {-1, 1, 2})
      add("Softmax_" + std::to_string(axis + 1), "Softmax", {"x"}, {whole("axis", axis)});
    add("Softmax_flattening", "Softmax", {"x"}, {whole("axis", 2)}, 11);
  }

  void add_reductions() {
    add("ReduceMean_spatial", "ReduceMean", {"x"}, {ints("axes", {2, 3})});
    add("ReduceMean_dropped", "ReduceMean", {"x"}, {ints("axes", {-1, 1}), whole("keepdims", 0)});
    add("ReduceMean_all", "ReduceMean", {"x"});
    whole_numbers(add("ReduceMean_input", "ReduceMean", {"x", "axes"}, {}, 18), "axes", {3});
    add("ReduceMean_nothing", "ReduceMean", {"x"}, {whole("noop_with_empty_axes", 1)}, 18);
  }

  void add_shapes() {
    add("Flatten", "Flatten", {"x"});
    add("Flatten_2", "Flatten", {"x"}, {whole("axis", 2)});
    add("Flatten_last", "Flatten", {"x"}, {whole("axis", -1)});
    whole_numbers(add("Reshape", "Reshape", {"x", "shape"}), "shape", {0, 2, -1, 6});
    add("Transpose", "Transpose", {"x"}, {ints("perm", {0, 2, 3, 1})});
    add("Transpose_reversed", "Transpose", {"x"});
    whole_numbers(add("Unsqueeze", "Unsqueeze", {"x", "axes"}), "axes", {1, -1});
    add("Unsqueeze_attribute", "Unsqueeze", {"x"}, {ints("axes", {0})}, 11);
    OnnxModel& squeeze = add("Squeeze", "Squeeze", {"g", "axes"});
    squeeze.nodes.insert(squeeze.nodes.begin() + 1, {"GlobalAveragePool", "pool", "", {"x"}, {"g"}, {}});
    whole_numbers(squeeze, "axes", {-1, 2});
    add("Concat_channels", "Concat", {"x", "image", "x"}, {whole("axis", 1)});
    numbers(add("Concat_negative", "Concat", {"x", "x"}, {whole("axis", -2)}), "unused", {1});
    for (const char* mode : {"constant", "reflect", "edge"}) {
      OnnxModel& model = add(std::string("Pad_") + mode, "Pad", {"x", "pads", "value"}, {word("mode", mode)});
      whole_numbers(model, "pads", {0, 0, 1, 2, 0, 0, 3, 0});
      model.constants.push_back(onnx_tensor("value", {}, {0.7f}));
    }
    add("Pad_channels", "Pad", {"x"}, {ints("pads", {0, 1, 0, 0, 0, 2, 0, 0}), real("value", -1)}, 10);
    OnnxModel& constant = add("Constant", "Add", {"x", "c"});
    OnnxAttribute held;
    held.name = "value";
    held.kind = OnnxAttribute::Kind::Tensor;
    held.tensor = onnx_tensor("", {4, 1, 1}, {1, -2, 3, 0.5f});
    constant.nodes.insert(constant.nodes.begin(), {"Constant", "held", "", {}, {"c"}, {held}});
    OnnxModel& folded = add("constants_folded", "Add", {"x", "d"});
    numbers(folded, "c", {4});
    whole_numbers(folded, "axes", {1, 2});
    folded.nodes.insert(folded.nodes.begin(), {"Unsqueeze", "wide", "", {"c", "axes"}, {"d"}, {}});
  }

  void add_codes() {
    for (const OnnxType type : {OnnxType::UInt8, OnnxType::Int8}) {
      const bool is_signed = type == OnnxType::Int8;
      OnnxModel& model =
          add(is_signed ? "codes_int8" : "codes_uint8", "DequantizeLinear", {"q", "scale", "zero"});
      model.nodes.insert(model.nodes.end() - 1,
                         {"QuantizeLinear", "codes", "", {"x", "scale", "zero"}, {"q"}, {}});
      model.constants.push_back(onnx_tensor("scale", {}, {0.013f}));
      model.constants.push_back(onnx_integers("zero", type, {}, {is_signed ? -3 : 100}));
    }
  }

  Random random_{11};
  std::vector<Case> cases_;
};

}  // namespace strata::vision
