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
    add_other_windows();
    add_products();
    add_elementwise();
    add_functions();
    add_normalizations();
    add_reductions();
    add_shapes();
    add_moves();
    add_resizes();
    add_computed_shapes();
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
    numbers(add("matmul_left", "MatMul", {"w", "x"}), "w", {5, 7});
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

  // A node between x and the tested one, which reads `output`.
  void before(OnnxModel& model, OnnxNode node) { model.nodes.insert(model.nodes.end() - 1, std::move(node)); }

  void add_other_windows() {
    const auto conv = [&](const std::string& name, const char* op, std::vector<int64_t> shape,
                          int64_t outputs, Attributes attributes, std::vector<int64_t> maps = {}) {
      OnnxModel& model = add(name, op, {maps.empty() ? "x" : "m", "w", "b"}, std::move(attributes));
      numbers(model, "w", std::move(shape), 0.4);
      numbers(model, "b", {outputs});
      if (maps.empty()) return;
      whole_numbers(model, "maps", maps);
      before(model, {"Reshape", "to_maps", "", {"x", "maps"}, {"m"}, {}});
    };
    const OnnxAttribute two = ints("strides", {2, 2});
    conv("conv_1d", "Conv", {5, 4, 3}, 5, {ints("strides", {2}), ints("pads", {1, 2})}, {0, 4, 42});
    conv("conv_1d_groups", "Conv", {8, 2, 3}, 8, {whole("group", 2), ints("dilations", {2})}, {0, 4, 42});
    conv("conv_3d", "Conv", {5, 2, 2, 3, 2}, 5, {ints("pads", {1, 1, 0, 0, 1, 1})}, {0, 2, 2, 7, 6});
    conv("transposed", "ConvTranspose", {4, 5, 3, 3}, 5, {});
    conv("transposed_strides", "ConvTranspose", {4, 5, 3, 2}, 5,
         {two, ints("pads", {1, 0, 0, 1}), ints("output_padding", {1, 0})});
    conv("transposed_groups", "ConvTranspose", {4, 3, 3, 3}, 6,
         {two, whole("group", 2), ints("dilations", {2, 1})});
    conv("transposed_depthwise", "ConvTranspose", {4, 1, 2, 2}, 4, {two, whole("group", 4)});
    conv("transposed_same", "ConvTranspose", {4, 2, 3, 3}, 2, {two, word("auto_pad", "SAME_UPPER")});
    conv("transposed_shape", "ConvTranspose", {4, 2, 3, 3}, 2, {two, ints("output_shape", {14, 12})});
    conv("transposed_1d", "ConvTranspose", {4, 3, 4}, 3, {ints("strides", {2})}, {0, 4, 42});
    for (const char* op : {"MaxPool", "AveragePool"}) {
      OnnxModel& line =
          add(std::string(op) + "_1d", op, {"m"}, {ints("kernel_shape", {3}), ints("strides", {2})});
      whole_numbers(line, "maps", {0, 4, 42});
      before(line, {"Reshape", "to_maps", "", {"x", "maps"}, {"m"}, {}});
      OnnxModel& volume = add(std::string(op) + "_3d", op, {"m"},
                              {ints("kernel_shape", {2, 2, 2}), ints("pads", {0, 1, 0, 1, 1, 0})});
      whole_numbers(volume, "maps", {0, 2, 2, 7, 6});
      before(volume, {"Reshape", "to_maps", "", {"x", "maps"}, {"m"}, {}});
    }
    add("GlobalMaxPool", "GlobalMaxPool", {"x"});
  }

  void add_functions() {
    for (const char* op : {"LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu"}) {
      add(op, op, {"x"});
      if (std::string(op) != "Selu") add(op + std::string("_alpha"), op, {"x"}, {real("alpha", 0.3f)});
    }
    for (const char* op : {"Tanh", "Exp", "Neg", "Abs", "Floor", "Ceil", "Round", "Softplus", "Softsign",
                           "Erf", "Sign", "Sin", "Cos", "Reciprocal"})
      add(op, op, {"x"});
    add("Mish", "Mish", {"x"}, {}, 18);
    add("Gelu", "Gelu", {"x"}, {}, 20);
    add("Gelu_tanh", "Gelu", {"x"}, {word("approximate", "tanh")}, 20);
    for (const char* op : {"Sqrt", "Log"})
      before(add(op, op, {"a"}), {"Softplus", "positive", "", {"x"}, {"a"}, {}});
    numbers(add("PRelu", "PRelu", {"x", "c"}), "c", {4, 1, 1});
    for (const char* op : {"Sum", "Mean"}) numbers(add(op, op, {"x", "c", "image"}), "c", {4, 1, 1});
    add("Pow", "Pow", {"x", "two"}).constants.push_back(onnx_tensor("two", {}, {2}));
    OnnxModel& root = add("Pow_7", "Pow", {"a", "half"}, {}, 7);
    root.constants.push_back(onnx_tensor("half", {}, {0.5f}));
    before(root, {"Abs", "absolute", "", {"x"}, {"a"}, {}});
    add("Cast", "Cast", {"x"}, {whole("to", 7)}).outputs[0].type = OnnxType::Int64;
    before(add("Cast_bool", "Cast", {"s"}, {whole("to", 9)}), {"Relu", "relu", "", {"x"}, {"s"}, {}});
    cases_.back().model.outputs[0].type = OnnxType::Bool;
    for (const char* op : {"Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"}) {
      numbers(add(op, op, {"x", "c"}), "c", {4, 1, 1});
      cases_.back().model.outputs[0].type = OnnxType::Bool;
    }
    OnnxModel& where = add("Where", "Where", {"larger", "x", "c"});
    numbers(where, "c", {6});
    before(where, {"Greater", "compare", "", {"x", "image"}, {"larger"}, {}});
  }

  void add_normalizations() {
    for (const char* op : {"Softmax", "LogSoftmax", "Hardmax"})
      for (const int64_t opset : {7, 11, 13, 22}) {
        const std::string name = op + std::string("_set_") + std::to_string(opset);
        add(name, op, {"x"}, {}, opset);
        for (const int64_t axis : {1, 2, 3})
          add(name + "_" + std::to_string(axis), op, {"x"}, {whole("axis", axis)}, opset);
        if (opset > 7) add(name + "_last", op, {"x"}, {whole("axis", -1)}, opset);
      }
    for (const int64_t size : {1, 3, 5})  // onnxruntime takes odd ones
      add("LRN_" + std::to_string(size), "LRN", {"x"},
          {whole("size", size), real("alpha", 0.2f), real("bias", 2)});
    const auto scaled = [&](const char* op, std::vector<int64_t> shape, Attributes attributes,
                            int64_t opset) {
      OnnxModel& model = add(op, op, {"x", "scale", "shift"}, std::move(attributes), opset);
      numbers(model, "scale", shape);
      numbers(model, "shift", shape);
    };
    scaled("InstanceNormalization", {4}, {real("epsilon", 0.01f)}, 7);
    scaled("LayerNormalization", {7, 6}, {whole("axis", 2)}, 17);
    scaled("GroupNormalization", {4}, {whole("num_groups", 2)}, 21);
    add("LpNormalization", "LpNormalization", {"x"}, {whole("axis", 1), whole("p", 1)});
  }

  void add_moves() {
    for (const int64_t opset : {7, 9}) {
      add("Slice_" + std::to_string(opset), "Slice", {"x"},
          {ints("starts", {1, -3}), ints("ends", {3, 1000}), ints("axes", {1, 2})}, opset);
      add("Slice_all_" + std::to_string(opset), "Slice", {"x"},
          {ints("starts", {0, 1}), ints("ends", {1000, -1})}, opset);
    }
    const auto slice = [&](const char* name, const std::vector<int64_t>& starts,
                           const std::vector<int64_t>& ends, const std::vector<int64_t>& axes,
                           const std::vector<int64_t>& steps) {
      OnnxModel& model = add(name, "Slice", {"x", "starts", "ends", "axes", "steps"});
      whole_numbers(model, "starts", starts);
      whole_numbers(model, "ends", ends);
      whole_numbers(model, "axes", axes);
      whole_numbers(model, "steps", steps);
    };
    slice("Slice_steps", {1, 0}, {7, 5}, {2, -1}, {2, 3});
    slice("Slice_backwards", {-1, 100}, {-100, 0}, {1, 3}, {-1, -2});
    for (const int64_t opset : {7, 12})
      add("Split_" + std::to_string(opset), "Split", {"x"}, {whole("axis", 1)}, opset).nodes.back().outputs =
          {"z", "y"};
    add("Split_sizes_11", "Split", {"x"}, {whole("axis", 2), ints("split", {1, 4, 2})}, 11)
        .nodes.back()
        .outputs = {"z", "y", "w"};
    whole_numbers(add("Split_sizes", "Split", {"x", "sizes"}, {whole("axis", 3)}), "sizes", {4, 2});
    cases_.back().model.nodes.back().outputs = {"z", "y"};
    add("Split_uneven", "Split", {"x"}, {whole("axis", 2), whole("num_outputs", 3)}, 18)
        .nodes.back()
        .outputs = {"z", "w", "y"};
    whole_numbers(add("Gather", "Gather", {"x", "places"}, {whole("axis", 2)}), "places", {3, 0, -1, 3});
    add("Gather_one", "Gather", {"x", "place"}, {whole("axis", 1)})
        .constants.push_back(onnx_integers("place", OnnxType::Int32, {}, {2}));
    OnnxModel& table = add("Gather_square", "Gather", {"x", "places"}, {whole("axis", -1)});
    table.constants.push_back(onnx_integers("places", OnnxType::Int64, {2, 2}, {0, 5, 4, 1}));
    OnnxModel& expand = add("Expand", "Expand", {"wide", "shape"});
    whole_numbers(expand, "axis", {2});
    whole_numbers(expand, "shape", {1, 1, 2, 1, 6});
    before(expand, {"Unsqueeze", "widen", "", {"x", "axis"}, {"wide"}, {}});
    whole_numbers(add("Tile", "Tile", {"x", "repeats"}), "repeats", {1, 2, 1, 3});
    for (const char* mode : {"DCR", "CRD"})
      add(std::string("DepthToSpace_") + mode, "DepthToSpace", {"x"},
          {whole("blocksize", 2), word("mode", mode)});
    OnnxModel& depth = add("SpaceToDepth", "SpaceToDepth", {"even"}, {whole("blocksize", 2)});
    whole_numbers(depth, "starts", {1});
    whole_numbers(depth, "ends", {7});
    whole_numbers(depth, "axes", {2});
    before(depth, {"Slice", "cut", "", {"x", "starts", "ends", "axes"}, {"even"}, {}});
    for (const char* mode : {"reflect", "edge", "wrap"}) {
      OnnxModel& pad =
          add(std::string("Pad_axes_") + mode, "Pad", {"x", "pads", "", "axes"}, {word("mode", mode)}, 19);
      whole_numbers(pad, "pads", {2, 1, 3, 0});
      whole_numbers(pad, "axes", {-1, 1});
    }
    for (const char* op : {"ArgMax", "ArgMin"})
      add(op, op, {"x"}, {whole("axis", 1), whole("keepdims", 0)}).outputs[0].type = OnnxType::Int64;
    for (const char* op : {"ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
                           "ReduceSumSquare", "ReduceLogSumExp"}) {
      const std::string name = op;
      add(name + "_attribute", op, {"x"}, {ints("axes", {1, -1}), whole("keepdims", 0)}, 11);
      if (name != "ReduceProd") add(name + "_all", op, {"x"}, {}, 12);
      whole_numbers(add(name + "_input", op, {"x", "axes"}, {}, 18), "axes", {-2, 1});
    }
  }

  void add_resizes() {
    const auto scales = [](OnnxModel& model, const std::vector<float>& values) {
      model.constants.push_back(onnx_tensor("scales", {static_cast<int64_t>(values.size())}, values));
    };
    for (const char* mode : {"nearest", "linear"}) {
      const std::string name = mode;
      OnnxAttribute listed;
      listed.name = "scales";
      listed.kind = OnnxAttribute::Kind::Floats;
      listed.reals = {1, 1, 2, 1.7f};
      add("Upsample_7_" + name, "Upsample", {"x"}, {word("mode", mode), listed}, 7);
      scales(add("Upsample_9_" + name, "Upsample", {"x", "scales"}, {word("mode", mode)}, 9), {1, 1, 2, 3});
      for (const float scale : {1.6f, 0.7f})
        scales(add("Resize_10_" + name + (scale < 1 ? "_down" : ""), "Resize", {"x", "scales"},
                   {word("mode", mode)}, 10),
               {1, 1, scale, scale});
    }
    for (const int64_t opset : {11, 13, 18, 19})
      for (const char* mode : {"nearest", "linear", "cubic"})
        for (const char* places : {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"}) {
          const std::string name = "Resize_" + std::to_string(opset) + "_" + mode + "_" + places;
          const Attributes attributes = {word("mode", mode), word("coordinate_transformation_mode", places)};
          const std::string roi = opset < 13 ? "roi" : "", empty = opset < 13 ? "empty" : "";
          scales(add(name + "_up", "Resize", {"x", roi, "scales"}, attributes, opset), {1, 1, 2, 1.5f});
          cases_.back().model.constants.push_back(onnx_tensor("roi", {0}, {}));
          OnnxModel& sized = add(name + "_sizes", "Resize", {"x", roi, empty, "sizes"}, attributes, opset);
          for (const char* none : {"roi", "empty"}) sized.constants.push_back(onnx_tensor(none, {0}, {}));
          whole_numbers(sized, "sizes", {3, 4, 4, 9});
        }
    for (const char* rule : {"floor", "ceil", "round_prefer_ceil"})
      scales(add(std::string("Resize_") + rule, "Resize", {"x", "", "scales"},
                 {word("mode", "nearest"), word("nearest_mode", rule)}),
             {1, 1, 1.4f, 0.5f});
    scales(add("Resize_axes", "Resize", {"x", "", "scales"}, {word("mode", "linear"), ints("axes", {3})}, 18),
           {2});
    scales(add("Resize_symmetric", "Resize", {"x", "", "scales"},
               {word("mode", "linear"), word("coordinate_transformation_mode", "half_pixel_symmetric")}, 19),
           {1, 1, 1.3f, 1.3f});
    scales(add("Resize_outside", "Resize", {"x", "", "scales"},
               {word("mode", "cubic"), whole("exclude_outside", 1), real("cubic_coeff_a", -0.5f)}),
           {1, 1, 1.5f, 0.8f});
  }

  // Shape -> Gather -> Concat -> Reshape, as PyTorch exports view(x.size(0), -1), and its kin.
  void add_computed_shapes() {
    OnnxModel& view = add("view", "Reshape", {"x", "shape"});
    view.constants.push_back(onnx_integers("first", OnnxType::Int64, {}, {0}));
    whole_numbers(view, "axes", {0});
    whole_numbers(view, "rest", {-1});
    before(view, {"Shape", "sizes", "", {"x"}, {"sizes"}, {}});
    before(view, {"Gather", "count", "", {"sizes", "first"}, {"count"}, {}});
    before(view, {"Unsqueeze", "list", "", {"count", "axes"}, {"counts"}, {}});
    before(view, {"Concat", "target", "", {"counts", "rest"}, {"shape"}, {whole("axis", 0)}});
    OnnxModel& twice = add("twice_as_large", "Resize", {"x", "", "", "sizes"}, {word("mode", "linear")});
    whole_numbers(twice, "factors", {1, 1, 2, 2});
    before(twice, {"Shape", "sizes", "", {"x"}, {"before"}, {}});
    before(twice, {"Mul", "doubled", "", {"before", "factors"}, {"sizes"}, {}});
    OnnxModel& scaled = add("divided_by_a_size", "Div", {"x", "root"});
    before(scaled, {"Shape", "last", "", {"x"}, {"size"}, {whole("start", -1)}});
    before(scaled, {"Cast", "real", "", {"size"}, {"real"}, {whole("to", 1)}});
    before(scaled, {"Sqrt", "root", "", {"real"}, {"root"}, {}});
    OnnxModel& grid = add("grid", "Add", {"x", "places"});
    for (const int64_t number : {0, 1, 3})
      grid.constants.push_back(onnx_integers(std::to_string(number), OnnxType::Int64, {}, {number}));
    before(grid, {"Shape", "sizes", "", {"x"}, {"sizes"}, {}});
    before(grid, {"Gather", "width", "", {"sizes", "3"}, {"width"}, {}});
    before(grid, {"Range", "range", "", {"0", "width", "1"}, {"range"}, {}});
    before(grid, {"Cast", "real", "", {"range"}, {"places"}, {whole("to", 1)}});
    OnnxModel& filled = add("ConstantOfShape", "Add", {"x", "filled"});
    before(filled, {"Shape", "sizes", "", {"x"}, {"sizes"}, {}});
    OnnxAttribute held;
    held.name = "value";
    held.kind = OnnxAttribute::Kind::Tensor;
    held.tensor = onnx_tensor("", {1}, {0.25f});
    before(filled, {"ConstantOfShape", "fill", "", {"sizes"}, {"filled"}, {held}});
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
