// Semantics are those of the ONNX operator sets 7 to 21.
#include "strata/vision/operators.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "strata/core/error.h"
#include "strata/vision/node_arguments.h"
#include "strata/vision/windows.h"

namespace strata::vision {
namespace {

using Tensors = std::vector<at::Tensor>;
using Maker = Operator (*)(const NodeArguments&);

// ---- layers ----

Operator make_conv(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 3);
  const OnnxTensor& weight = arguments.constant(1, "weight");
  if (weight.shape.size() != 4)
    arguments.refuse(
        fmt::format("has a weight of {} dimensions; only two-dimensional convolutions, of 4, are "
                    "supported",
                    weight.shape.size()));
  const int64_t groups = arguments.integer("group", 1);
  if (groups < 1 || groups > weight.shape[0] || weight.shape[0] % groups != 0)
    arguments.refuse(
        fmt::format("has {} groups, which do not divide its {} outputs", groups, weight.shape[0]));
  const Window window = read_window(arguments, {weight.shape[2], weight.shape[3]});
  return [window, groups](const Tensors& in) {
    const auto pads = window.pads_for(in[0].size(2), in[0].size(3));
    const bool symmetric = pads[0] == pads[2] && pads[1] == pads[3];
    const at::Tensor image = symmetric ? in[0] : pad_image(in[0], pads, 0);
    const std::array<int64_t, 2> padding = {symmetric ? pads[0] : 0, symmetric ? pads[1] : 0};
    const at::Tensor bias = in.size() > 2 ? in[2] : at::Tensor();
    return at::conv2d(image, in[1], bias, window.strides, padding, window.dilations, groups);
  };
}

Operator make_gemm(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 3);
  const float alpha = arguments.real("alpha", 1), beta = arguments.real("beta", 1);
  const bool transpose_a = arguments.integer("transA", 0) != 0;
  const bool transpose_b = arguments.integer("transB", 0) != 0;
  return [=](const Tensors& in) {
    const at::Tensor a = transpose_a ? in[0].t() : in[0], b = transpose_b ? in[1].t() : in[1];
    if (in.size() > 2 && in[2].defined()) return at::addmm(in[2], a, b, beta, alpha);
    return alpha == 1 ? at::mm(a, b) : at::mm(a, b) * alpha;
  };
}

Operator make_matmul(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return [](const Tensors& in) { return at::matmul(in[0], in[1]); };
}

Operator make_batch_normalization(const NodeArguments& arguments) {
  arguments.expect_inputs(5, 5);
  if (arguments.integer("training_mode", 0) != 0)
    arguments.refuse("is in training mode; export for inference");
  const float epsilon = arguments.real("epsilon", 1e-5f);
  return [epsilon](const Tensors& in) {
    return at::batch_norm(in[0], in[1], in[2], in[3], in[4], false, 0, epsilon, false);
  };
}

// ---- element by element ----

template <at::Tensor (*function)(const at::Tensor&)>
Operator make_unary(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  return [](const Tensors& in) { return function(in[0]); };
}

Operator make_hard_sigmoid(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const float alpha = arguments.real("alpha", 0.2f), beta = arguments.real("beta", 0.5f);
  return [=](const Tensors& in) { return at::clamp(in[0] * alpha + beta, 0, 1); };
}

Operator make_clip(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 3);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto bound = [&](const char* name, size_t index, float missing) {
    return arguments.has_input(index) ? arguments.scalar(index, name) : arguments.real(name, missing);
  };
  const float low = bound("min", 1, -kInfinity), high = bound("max", 2, kInfinity);
  return [low, high](const Tensors& in) { return at::clamp(in[0], low, high); };
}

template <class Function>
Operator fold_inputs(const NodeArguments& arguments, Function function) {
  arguments.expect_inputs(1, std::numeric_limits<size_t>::max());
  return [function](const Tensors& in) {
    at::Tensor result = in[0];
    for (size_t i = 1; i < in.size(); ++i) result = function(result, in[i]);
    return result;
  };
}

Operator make_add(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return fold_inputs(arguments, [](const at::Tensor& a, const at::Tensor& b) { return a + b; });
}

Operator make_sub(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return fold_inputs(arguments, [](const at::Tensor& a, const at::Tensor& b) { return a - b; });
}

Operator make_mul(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return fold_inputs(arguments, [](const at::Tensor& a, const at::Tensor& b) { return a * b; });
}

Operator make_div(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return fold_inputs(arguments, [](const at::Tensor& a, const at::Tensor& b) { return a / b; });
}

Operator make_min(const NodeArguments& arguments) {
  return fold_inputs(arguments, [](const at::Tensor& a, const at::Tensor& b) { return at::minimum(a, b); });
}

Operator make_max(const NodeArguments& arguments) {
  return fold_inputs(arguments, [](const at::Tensor& a, const at::Tensor& b) { return at::maximum(a, b); });
}

Operator make_identity(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 3);
  return [](const Tensors& in) { return in[0]; };
}

// ---- pooling and reduction ----

// Of a pooling in ceil mode the windows that begin on the image or before it, as onnxruntime and LibTorch
// have it; LibTorch itself cannot tell an image that was padded before from a larger one.
at::Tensor drop_beyond(at::Tensor pooled, const at::Tensor& image, const Window& window,
                       const std::array<int64_t, 4>& pads) {
  for (size_t d = 0; d < 2; ++d) {
    const auto axis = static_cast<int64_t>(d) + 2;
    const int64_t windows = (image.size(axis) + pads[d] - 1) / window.strides[d] + 1;
    pooled = pooled.narrow(axis, 0, std::min(windows, pooled.size(axis)));
  }
  return pooled;
}

Operator make_max_pool(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  if (arguments.node().outputs.size() > 1) arguments.refuse("is asked for indices, which are not supported");
  const Window window = read_window(arguments, {});
  const bool ceil_mode = arguments.integer("ceil_mode", 0) != 0;
  return [window, ceil_mode](const Tensors& in) {
    const auto pads = window.pads_for(in[0].size(2), in[0].size(3));
    const bool none = pads == std::array<int64_t, 4>{};
    const at::Tensor image = none ? in[0] : pad_image(in[0], pads, -std::numeric_limits<float>::infinity());
    const at::Tensor pooled =
        at::max_pool2d(image, window.kernel, window.strides, {0, 0}, window.dilations, ceil_mode);
    return ceil_mode ? drop_beyond(pooled, in[0], window, pads) : pooled;
  };
}

Operator make_average_pool(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const Window window = read_window(arguments, {});
  const bool ceil_mode = arguments.integer("ceil_mode", 0) != 0;
  const bool count_pads = arguments.integer("count_include_pad", 0) != 0;
  if (window.dilations != std::array<int64_t, 2>{1, 1})
    arguments.refuse("is dilated, which is not supported");
  return [=](const Tensors& in) {
    const auto pads = window.pads_for(in[0].size(2), in[0].size(3));
    if (pads[0] == pads[2] && pads[1] == pads[3] && 2 * pads[0] <= window.kernel[0] &&
        2 * pads[1] <= window.kernel[1])
      return at::avg_pool2d(in[0], window.kernel, window.strides, {pads[0], pads[1]}, ceil_mode, count_pads);
    const auto pool = [&](const at::Tensor& image) {
      const at::Tensor pooled =
          at::avg_pool2d(pad_image(image, pads, 0), window.kernel, window.strides, {0, 0}, ceil_mode);
      return ceil_mode ? drop_beyond(pooled, image, window, pads) : pooled;
    };
    if (count_pads) return pool(in[0]);
    return pool(in[0]) / pool(at::ones_like(in[0].narrow(0, 0, 1).narrow(1, 0, 1)));
  };
}

Operator make_global_average_pool(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  return [](const Tensors& in) { return at::mean(in[0], {2, 3}, true); };
}

Operator make_reduce_mean(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 2);
  const std::vector<int64_t> axes = arguments.attribute_or_input("axes", 1, {});
  const bool keep = arguments.integer("keepdims", 1) != 0;
  const bool nothing = axes.empty() && arguments.integer("noop_with_empty_axes", 0) != 0;
  return [=](const Tensors& in) {
    if (nothing) return in[0];
    std::vector<int64_t> all = axes;
    for (int64_t d = 0; axes.empty() && d < in[0].dim(); ++d) all.push_back(d);
    return at::mean(in[0], all, keep);
  };
}

Operator make_softmax(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const bool flattens = arguments.opset() < 13;
  const int64_t axis = arguments.integer("axis", flattens ? 1 : -1);
  return [=](const Tensors& in) {
    if (!flattens) return at::softmax(in[0], axis);
    const int64_t from = axis < 0 ? axis + in[0].dim() : axis;
    return at::softmax(in[0].flatten(from), from).view_as(in[0]);
  };
}

// ---- shapes ----

Operator make_flatten(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const int64_t axis = arguments.integer("axis", 1);
  return [axis](const Tensors& in) {
    const int64_t from = axis < 0 ? axis + in[0].dim() : axis;
    int64_t rows = 1;
    for (int64_t d = 0; d < from; ++d) rows *= in[0].size(d);
    return in[0].reshape({rows, -1});
  };
}

Operator make_reshape(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  std::vector<int64_t> shape = arguments.integer_list(1, "shape");
  const bool zero_is_zero = arguments.integer("allowzero", 0) != 0;
  // A model exported for a fixed number of images is run on any number of them.
  const auto& inputs = arguments.model().inputs;
  const bool fixed = !inputs.empty() && !inputs[0].shape.empty() && inputs[0].shape[0] > 0;
  if (fixed && !shape.empty() && shape[0] == inputs[0].shape[0] && !zero_is_zero) shape[0] = 0;
  return [=](const Tensors& in) {
    std::vector<int64_t> target = shape;
    for (size_t d = 0; d < target.size(); ++d)
      if (target[d] == 0 && !zero_is_zero) target[d] = in[0].size(static_cast<int64_t>(d));
    return in[0].reshape(target);
  };
}

Operator make_transpose(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const std::vector<int64_t> order = arguments.integers("perm", {});
  return [order](const Tensors& in) {
    std::vector<int64_t> axes = order;
    for (int64_t d = in[0].dim() - 1; order.empty() && d >= 0; --d) axes.push_back(d);
    return in[0].permute(axes);
  };
}

Operator make_squeeze(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 2);
  std::vector<int64_t> axes = arguments.attribute_or_input("axes", 1, {});
  if (axes.empty()) arguments.refuse("names no axes, so that its shape depends on the number of images");
  return [axes](const Tensors& in) {
    std::vector<int64_t> from_last;
    for (int64_t axis : axes) from_last.push_back(axis < 0 ? axis + in[0].dim() : axis);
    std::sort(from_last.rbegin(), from_last.rend());
    at::Tensor result = in[0];
    for (int64_t axis : from_last) result = result.squeeze(axis);
    return result;
  };
}

Operator make_unsqueeze(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 2);
  const std::vector<int64_t> axes = arguments.attribute_or_input("axes", 1, {});
  return [axes](const Tensors& in) {
    std::vector<int64_t> sorted;
    const auto dimensions = in[0].dim() + static_cast<int64_t>(axes.size());
    for (int64_t axis : axes) sorted.push_back(axis < 0 ? axis + dimensions : axis);
    std::sort(sorted.begin(), sorted.end());
    at::Tensor result = in[0];
    for (int64_t axis : sorted) result = result.unsqueeze(axis);
    return result;
  };
}

Operator make_concat(const NodeArguments& arguments) {
  arguments.expect_inputs(1, std::numeric_limits<size_t>::max());
  const int64_t axis = arguments.integer("axis", 1);
  return [axis](const Tensors& in) { return at::cat(in, axis); };
}

Operator make_pad(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 4);
  if (arguments.has_input(3)) arguments.refuse("pads chosen axes, which is not supported");
  const std::vector<int64_t> pads = arguments.attribute_or_input("pads", 1, {});
  const std::string mode = arguments.text("mode", "constant");
  const float value = arguments.has_input(2) ? arguments.scalar(2, "value") : arguments.real("value", 0);
  if (pads.empty() || pads.size() % 2 != 0)
    arguments.refuse(fmt::format("has {} pads, expected two for every dimension", pads.size()));
  if (mode != "constant" && mode != "reflect" && mode != "edge")
    arguments.refuse(fmt::format("has the mode '{}', which is not supported", mode));
  const size_t dimensions = pads.size() / 2;
  std::vector<int64_t> from_last;  // LibTorch's order: the last dimension first
  for (size_t d = dimensions; d-- > 0;) {
    from_last.push_back(pads[d]);
    from_last.push_back(pads[d + dimensions]);
  }
  while (mode != "constant" && from_last.size() > 4 && from_last.back() == 0) from_last.pop_back();
  return [=](const Tensors& in) {
    if (mode == "constant") return at::constant_pad_nd(in[0], from_last, value);
    return mode == "reflect" ? at::reflection_pad2d(in[0], from_last)
                             : at::replication_pad2d(in[0], from_last);
  };
}

// ---- quantized models ----

// Scale or zero point along `axis`, shaped so that it spreads over a tensor of `dimensions`.
at::Tensor along_axis(const std::vector<float>& values, int64_t axis, const at::Tensor& like) {
  const at::Tensor tensor = at::tensor(values, at::kFloat).to(like.device());
  if (values.size() == 1) return tensor.reshape({});
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape.at(static_cast<size_t>(axis < 0 ? axis + like.dim() : axis)) = -1;
  return tensor.reshape(shape);
}

struct Affine {
  std::vector<float> scale, zero_point;
  int64_t axis, lowest, highest;
};

Affine read_affine(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 3);
  if (arguments.integer("block_size", 0) != 0) arguments.refuse("is blocked, which is not supported");
  Affine affine{arguments.constant(1, "scale").floats(), {}, arguments.integer("axis", 1), 0, 255};
  affine.zero_point.assign(affine.scale.size(), 0.0f);
  auto type = static_cast<OnnxType>(arguments.integer("output_dtype", 0));
  if (arguments.has_input(2)) {
    const OnnxTensor& zero_point = arguments.constant(2, "zero point");
    if (zero_point.elements() != static_cast<int64_t>(affine.scale.size()))
      arguments.refuse("has scales and zero points of different numbers");
    affine.zero_point = zero_point.floats();
    type = zero_point.type;
  }
  if (type == OnnxType::Int8) affine.lowest = -128, affine.highest = 127;
  if (type == OnnxType::UInt4) affine.highest = 15;
  if (type == OnnxType::Int4) affine.lowest = -8, affine.highest = 7;
  return affine;
}

// Codes stay in float tensors, in which all of them are exact.
Operator make_quantize_linear(const NodeArguments& arguments) {
  const Affine affine = read_affine(arguments);
  return [affine](const Tensors& in) {
    const at::Tensor scale = along_axis(affine.scale, affine.axis, in[0]);
    const at::Tensor zero_point = along_axis(affine.zero_point, affine.axis, in[0]);
    return at::clamp(at::round(in[0] / scale) + zero_point, affine.lowest, affine.highest);
  };
}

Operator make_dequantize_linear(const NodeArguments& arguments) {
  const Affine affine = read_affine(arguments);
  return [affine](const Tensors& in) {
    return (in[0] - along_axis(affine.zero_point, affine.axis, in[0])) *
           along_axis(affine.scale, affine.axis, in[0]);
  };
}

const std::map<std::string, Maker>& makers() {
  static const std::map<std::string, Maker> table = {
      {"Add", make_add},
      {"AveragePool", make_average_pool},
      {"BatchNormalization", make_batch_normalization},
      {"Clip", make_clip},
      {"Concat", make_concat},
      {"Conv", make_conv},
      {"DequantizeLinear", make_dequantize_linear},
      {"Div", make_div},
      {"Dropout", make_identity},
      {"Flatten", make_flatten},
      {"Gemm", make_gemm},
      {"GlobalAveragePool", make_global_average_pool},
      {"HardSigmoid", make_hard_sigmoid},
      {"HardSwish", make_unary<at::hardswish>},
      {"Identity", make_identity},
      {"MatMul", make_matmul},
      {"Max", make_max},
      {"MaxPool", make_max_pool},
      {"Min", make_min},
      {"Mul", make_mul},
      {"Pad", make_pad},
      {"QuantizeLinear", make_quantize_linear},
      {"ReduceMean", make_reduce_mean},
      {"Relu", make_unary<at::relu>},
      {"Reshape", make_reshape},
      {"Sigmoid", make_unary<at::sigmoid>},
      {"Softmax", make_softmax},
      {"Squeeze", make_squeeze},
      {"Sub", make_sub},
      {"Transpose", make_transpose},
      {"Unsqueeze", make_unsqueeze},
  };
  return table;
}

}  // namespace

Operator make_operator(const OnnxModel& model, const OnnxNode& node) {
  const NodeArguments arguments(model, node);
  if (node.op_type == "Shape" || node.op_type == "Size" || node.op_type == "ConstantOfShape")
    arguments.refuse("computes shapes while the model runs; export the model with fixed shapes");
  const auto found = makers().find(node.op_type);
  if (found == makers().end() || !(node.domain.empty() || node.domain == "ai.onnx"))
    arguments.refuse(fmt::format("is an operator that is not supported; known are {}, Constant",
                                 fmt::join(operator_names(), ", ")));
  return found->second(arguments);
}

std::vector<std::string> operator_names() {
  std::vector<std::string> names;
  for (const auto& [name, maker] : makers()) names.push_back(name);
  return names;
}

}  // namespace strata::vision
