// Element by element, of one tensor or of several that spread over each other.
#include <ATen/ExpandUtils.h>

#include <algorithm>
#include <limits>

#include "strata/core/error.h"
#include "strata/vision/operators.h"
#include "strata/vision/tensor_conversion.h"

namespace strata::vision {
namespace {

// ---- of one tensor ----

template <at::Tensor (*function)(const at::Tensor&)>
Operator make_unary(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  return [](const Tensors& in) { return function(in[0]); };
}

// With the same function that writes over its input.
template <at::Tensor (*function)(const at::Tensor&), at::Tensor& (*over)(at::Tensor&)>
Operator make_unary_over(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  return [](const Tensors& in) {
    const bool over_it = is_free(in[0]);  // before it is held here, too
    at::Tensor x = in[0];
    return over_it ? over(x) : function(x);
  };
}

template <class Function>
Operator of_one(const NodeArguments& arguments, Function function) {
  arguments.expect_inputs(1, 1);
  return [function](const Tensors& in) { return function(in[0]); };
}

Operator make_leaky_relu(const NodeArguments& arguments) {
  const double alpha = arguments.real("alpha", 0.01f);
  return of_one(arguments, [alpha](const at::Tensor& x) { return at::leaky_relu(x, alpha); });
}

Operator make_elu(const NodeArguments& arguments) {
  const double alpha = arguments.real("alpha", 1);
  return of_one(arguments, [alpha](const at::Tensor& x) { return at::elu(x, alpha); });
}

Operator make_celu(const NodeArguments& arguments) {
  const double alpha = arguments.real("alpha", 1);
  return of_one(arguments, [alpha](const at::Tensor& x) { return at::celu(x, alpha); });
}

Operator make_selu(const NodeArguments& arguments) {
  const double alpha = arguments.real("alpha", 1.67326324f), gamma = arguments.real("gamma", 1.05070102f);
  return of_one(arguments, [=](const at::Tensor& x) { return at::elu(x, alpha) * gamma; });
}

Operator make_thresholded_relu(const NodeArguments& arguments) {
  const double alpha = arguments.real("alpha", 1);
  return of_one(arguments, [alpha](const at::Tensor& x) { return x * (x > alpha); });
}

Operator make_hard_sigmoid(const NodeArguments& arguments) {
  const float alpha = arguments.real("alpha", 0.2f), beta = arguments.real("beta", 0.5f);
  return of_one(arguments, [=](const at::Tensor& x) { return at::clamp(x * alpha + beta, 0, 1); });
}

Operator make_gelu(const NodeArguments& arguments) {
  const std::string approximate = arguments.text("approximate", "none");
  if (approximate != "none" && approximate != "tanh")
    arguments.refuse(fmt::format("has the unknown approximation '{}'", approximate));
  return of_one(arguments, [approximate](const at::Tensor& x) { return at::gelu(x, approximate); });
}

Operator make_softplus(const NodeArguments& arguments) {
  return of_one(arguments, [](const at::Tensor& x) { return at::softplus(x); });
}

Operator make_softsign(const NodeArguments& arguments) {
  return of_one(arguments, [](const at::Tensor& x) { return x / (1 + at::abs(x)); });
}

Operator make_clip(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 3);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto bound = [&](const char* name, size_t index, float missing) {
    return arguments.has_input(index) ? arguments.scalar(index, name) : arguments.real(name, missing);
  };
  const float low = bound("min", 1, -kInfinity), high = bound("max", 2, kInfinity);
  return [low, high](const Tensors& in) {
    return is_free(in[0]) ? in[0].clamp_(low, high) : at::clamp(in[0], low, high).to(in[0].scalar_type());
  };
}

Operator make_cast(const NodeArguments& arguments) {
  const auto type = static_cast<OnnxType>(arguments.integer("to", 0));
  // An input of the model in fewer bits than float32 has been rounded before it came.
  auto source = OnnxType::Float;
  for (const OnnxValueInfo& input : arguments.model().inputs)
    if (!arguments.node().inputs.empty() && input.name == arguments.node().inputs[0]) source = input.type;
  return of_one(arguments, [type, source](const at::Tensor& x) {
    const at::Tensor values = x.is_floating_point() ? round_to_type(x, source) : x;
    return round_to_type(values.to(scalar_type_of(type)), type);
  });
}

// ---- of several ----

// Whether the first of two inputs has room for what an operator of theirs gives.
bool takes_result(const at::Tensor& first, const at::Tensor& second) {
  return is_free(first) && second.scalar_type() == first.scalar_type() && first.device() == second.device() &&
         first.sizes() == at::infer_size(first.sizes(), second.sizes());
}

at::Tensor quotient(const at::Tensor& a, const at::Tensor& b) {
  return a.is_floating_point() ? a / b : at::div(a, b, "trunc").to(a.scalar_type());
}

at::Tensor power(const at::Tensor& a, const at::Tensor& b) {
  return at::pow(a, b).to(a.scalar_type());
}

at::Tensor sum_of(const at::Tensor& a, const at::Tensor& b) {
  return takes_result(a, b) ? a.add_(b) : takes_result(b, a) ? b.add_(a) : a + b;
}

at::Tensor difference(const at::Tensor& a, const at::Tensor& b) {
  return a - b;
}

at::Tensor product_of(const at::Tensor& a, const at::Tensor& b) {
  return takes_result(a, b) ? a.mul_(b) : takes_result(b, a) ? b.mul_(a) : a * b;
}

template <at::Tensor (*function)(const at::Tensor&, const at::Tensor&)>
Operator make_binary(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return [](const Tensors& in) {
    if (in[0].device() == in[1].device()) return function(in[0], in[1]);
    const Tensors both = on_one_device(in);
    return function(both[0], both[1]);
  };
}

// Folds any number of inputs.
template <at::Tensor (*function)(const at::Tensor&, const at::Tensor&)>
Operator make_variadic(const NodeArguments& arguments) {
  arguments.expect_inputs(1, std::numeric_limits<size_t>::max());
  return [](const Tensors& in) {
    const Tensors all = on_one_device(in);
    at::Tensor result = all[0];
    for (size_t i = 1; i < all.size(); ++i) result = function(result, all[i]);
    return result;
  };
}

Operator make_mean(const NodeArguments& arguments) {
  const Operator sum = make_variadic<sum_of>(arguments);
  return [sum](const Tensors& in) { return sum(in)[0] / static_cast<double>(in.size()); };
}

Operator make_mod(const NodeArguments& arguments) {
  return arguments.integer("fmod", 0) != 0 ? make_binary<at::fmod>(arguments)
                                           : make_binary<at::remainder>(arguments);
}

Operator make_prelu(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return [](const Tensors& in) { return at::where(in[0] < 0, in[0] * in[1], in[0]); };
}

}  // namespace

OperatorTable elementwise_operators() {
  return {{"Abs", make_unary<at::abs>},
          {"Add", make_binary<sum_of>},
          {"Cast", make_cast},
          {"Ceil", make_unary<at::ceil>},
          {"Celu", make_celu},
          {"Clip", make_clip},
          {"Cos", make_unary<at::cos>},
          {"Div", make_binary<quotient>},
          {"Elu", make_elu},
          {"Erf", make_unary<at::erf>},
          {"Exp", make_unary<at::exp>},
          {"Floor", make_unary<at::floor>},
          {"Gelu", make_gelu},
          {"HardSigmoid", make_hard_sigmoid},
          {"HardSwish", make_unary_over<at::hardswish, at::hardswish_>},
          {"LeakyRelu", make_leaky_relu},
          {"Log", make_unary<at::log>},
          {"Max", make_variadic<at::maximum>},
          {"Mean", make_mean},
          {"Min", make_variadic<at::minimum>},
          {"Mish", make_unary<at::mish>},
          {"Mod", make_mod},
          {"Mul", make_binary<product_of>},
          {"Neg", make_unary<at::neg>},
          {"PRelu", make_prelu},
          {"Pow", make_binary<power>},
          {"Reciprocal", make_unary<at::reciprocal>},
          {"Relu", make_unary_over<at::relu, at::relu_>},
          {"Round", make_unary<at::round>},
          {"Selu", make_selu},
          {"Sigmoid", make_unary_over<at::sigmoid, at::sigmoid_>},
          {"Sign", make_unary<at::sign>},
          {"Sin", make_unary<at::sin>},
          {"Softplus", make_softplus},
          {"Softsign", make_softsign},
          {"Sqrt", make_unary<at::sqrt>},
          {"Sub", make_binary<difference>},
          {"Sum", make_variadic<sum_of>},
          {"Tanh", make_unary<at::tanh>},
          {"ThresholdedRelu", make_thresholded_relu}};
}

}  // namespace strata::vision
