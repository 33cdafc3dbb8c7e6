// Softmax and its kin, and what normalizes by means and variances.
#include "strata/core/error.h"
#include "strata/vision/operators.h"

namespace strata::vision {
namespace {

at::Tensor softmax(const at::Tensor& x, int64_t axis) {
  return at::softmax(x, axis);
}

at::Tensor log_softmax(const at::Tensor& x, int64_t axis) {
  return at::log_softmax(x, axis);
}

at::Tensor hardmax(const at::Tensor& x, int64_t axis) {
  return at::zeros_like(x).scatter(axis, at::argmax(x, axis, /*keepdim=*/true), 1.0);
}

// Along one axis from operator set 13 on; before, over all axes from `axis` on together.
template <at::Tensor (*function)(const at::Tensor&, int64_t)>
Operator make_over_axis(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const bool flattens = arguments.opset() < 13;
  const int64_t axis = arguments.integer("axis", flattens ? 1 : -1);
  return [=](const Tensors& in) {
    if (!flattens) return function(in[0], axis);
    const int64_t from = axis < 0 ? axis + in[0].dim() : axis;
    return function(in[0].flatten(from), from).view_as(in[0]);
  };
}

Operator make_batch_normalization(const NodeArguments& arguments) {
  arguments.expect_inputs(5, 5);
  if (arguments.integer("training_mode", 0) != 0)
    arguments.refuse("is in training mode; export for inference");
  if (arguments.integer("spatial", 1) == 0) arguments.refuse("normalizes every place by itself");
  const float epsilon = arguments.real("epsilon", 1e-5f);
  return [epsilon](const Tensors& in) {
    return at::batch_norm(in[0], in[1], in[2], in[3], in[4], false, 0, epsilon, false);
  };
}

Operator make_instance_normalization(const NodeArguments& arguments) {
  arguments.expect_inputs(3, 3);
  const float epsilon = arguments.real("epsilon", 1e-5f);
  return [epsilon](const Tensors& in) {
    return at::instance_norm(in[0], in[1], in[2], {}, {}, true, 0, epsilon, false);
  };
}

Operator make_group_normalization(const NodeArguments& arguments) {
  arguments.expect_inputs(3, 3);
  if (arguments.opset() < 21) arguments.refuse("has scales for groups; export with operator set 21");
  const int64_t groups = arguments.integer("num_groups", 1);
  const float epsilon = arguments.real("epsilon", 1e-5f);
  return [=](const Tensors& in) { return at::group_norm(in[0], groups, in[1], in[2], epsilon, false); };
}

Operator make_layer_normalization(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 3);
  if (arguments.node().outputs.size() > 1) arguments.refuse("is asked for means, which are not supported");
  const int64_t axis = arguments.integer("axis", -1);
  const float epsilon = arguments.real("epsilon", 1e-5f);
  return [=](const Tensors& in) {
    const int64_t from = axis < 0 ? axis + in[0].dim() : axis;
    const at::IntArrayRef shape = in[0].sizes().slice(static_cast<size_t>(from));
    const at::Tensor normalized = at::layer_norm(in[0], shape, {}, {}, epsilon, false) * in[1];
    return in.size() > 2 && in[2].defined() ? normalized + in[2] : normalized;
  };
}

// Local response normalization: y = x / (bias + alpha / size * sum of squares of `size` channels)^beta.
Operator make_lrn(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const int64_t size = arguments.integer("size", 0);
  if (size < 1 || size > 1 << 20) arguments.refuse(fmt::format("has a size of {}", size));
  const float alpha = arguments.real("alpha", 1e-4f), beta = arguments.real("beta", 0.75f),
              bias = arguments.real("bias", 1);
  return [=](const Tensors& in) {
    const at::Tensor& x = in[0];
    const at::Tensor squares = at::square(x);
    at::Tensor sums = at::zeros_like(x);
    for (int64_t offset = -((size - 1) / 2); offset <= size / 2; ++offset) {
      const int64_t channels = x.size(1) - std::abs(offset);
      if (channels <= 0) continue;
      const int64_t to = std::max<int64_t>(0, -offset), from = std::max<int64_t>(0, offset);
      sums.narrow(1, to, channels).add_(squares.narrow(1, from, channels));
    }
    return x / at::pow(bias + alpha / static_cast<float>(size) * sums, beta);
  };
}

Operator make_lp_normalization(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const int64_t p = arguments.integer("p", 2), axis = arguments.integer("axis", -1);
  if (p != 1 && p != 2) arguments.refuse(fmt::format("has the norm {}, expected 1 or 2", p));
  return [=](const Tensors& in) { return in[0] / at::norm(in[0], p, axis, /*keepdim=*/true); };
}

}  // namespace

OperatorTable normalization_operators() {
  return {{"BatchNormalization", make_batch_normalization},
          {"GroupNormalization", make_group_normalization},
          {"Hardmax", make_over_axis<hardmax>},
          {"InstanceNormalization", make_instance_normalization},
          {"LRN", make_lrn},
          {"LayerNormalization", make_layer_normalization},
          {"LogSoftmax", make_over_axis<log_softmax>},
          {"LpNormalization", make_lp_normalization},
          {"Softmax", make_over_axis<softmax>}};
}

}  // namespace strata::vision
