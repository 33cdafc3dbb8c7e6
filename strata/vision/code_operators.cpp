// What quantized models are made of.
#include <algorithm>

#include "strata/vision/operators.h"

namespace strata::vision {
namespace {

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
    return (in[0].to(at::kFloat) - along_axis(affine.zero_point, affine.axis, in[0])) *
           along_axis(affine.scale, affine.axis, in[0]);
  };
}

}  // namespace

OperatorTable code_operators() {
  return {{"DequantizeLinear", make_dequantize_linear}, {"QuantizeLinear", make_quantize_linear}};
}

}  // namespace strata::vision
