// Over axes, which were attributes in earlier operator sets and are inputs in later ones.
#include "strata/vision/operators.h"
#include "strata/vision/tensor_conversion.h"

namespace strata::vision {
namespace {

using Axes = std::vector<int64_t>;

at::Tensor mean(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::mean(x, axes, keep);
}

at::Tensor sum(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::sum(x, axes, keep, x.scalar_type());
}

at::Tensor largest(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::amax(x, axes, keep);
}

at::Tensor smallest(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::amin(x, axes, keep);
}

at::Tensor product(const at::Tensor& x, const Axes& axes, bool keep) {
  at::Tensor result = x;
  for (int64_t axis : axes) result = at::prod(result, axis, true, x.scalar_type());
  std::vector<int64_t> shape;
  for (int64_t d = 0; d < x.dim(); ++d) {
    bool reduced = false;
    for (int64_t axis : axes) reduced |= (axis < 0 ? axis + x.dim() : axis) == d;
    if (!reduced || keep) shape.push_back(result.size(d));
  }
  return result.reshape(shape);
}

at::Tensor l1(const at::Tensor& x, const Axes& axes, bool keep) {
  return sum(at::abs(x), axes, keep);
}

at::Tensor sum_of_squares(const at::Tensor& x, const Axes& axes, bool keep) {
  return sum(at::square(x), axes, keep);
}

at::Tensor l2(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::sqrt(sum_of_squares(x, axes, keep));
}

at::Tensor log_of_sum(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::log(sum(x, axes, keep));
}

at::Tensor log_of_exponentials(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::logsumexp(x, axes, keep);
}

template <at::Tensor (*function)(const at::Tensor&, const Axes&, bool)>
Operator make_reduction(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 2);
  const Axes stated = arguments.integers("axes", {});
  const bool keep = arguments.integer("keepdims", 1) != 0;
  const bool nothing = arguments.integer("noop_with_empty_axes", 0) != 0;
  return [=](const Tensors& in) {
    const Axes axes = in.size() > 1 && in[1].defined() ? integers_of(in[1]) : stated;
    if (axes.empty() && nothing) return in[0];
    return function(in[0], axes.empty() ? all_axes(in[0]) : axes, keep);
  };
}

at::Tensor place_of_largest(const at::Tensor& x, int64_t axis, bool keep) {
  return at::argmax(x, axis, keep);
}

at::Tensor place_of_smallest(const at::Tensor& x, int64_t axis, bool keep) {
  return at::argmin(x, axis, keep);
}

template <at::Tensor (*function)(const at::Tensor&, int64_t, bool)>
Operator make_place(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  if (arguments.integer("select_last_index", 0) != 0) arguments.refuse("takes the last of equal values");
  const int64_t axis = arguments.integer("axis", 0);
  const bool keep = arguments.integer("keepdims", 1) != 0;
  return [=](const Tensors& in) { return function(in[0], axis, keep); };
}

}  // namespace

OperatorTable reduction_operators() {
  return {{"ArgMax", make_place<place_of_largest>},
          {"ArgMin", make_place<place_of_smallest>},
          {"ReduceL1", make_reduction<l1>},
          {"ReduceL2", make_reduction<l2>},
          {"ReduceLogSum", make_reduction<log_of_sum>},
          {"ReduceLogSumExp", make_reduction<log_of_exponentials>},
          {"ReduceMax", make_reduction<largest>},
          {"ReduceMean", make_reduction<mean>},
          {"ReduceMin", make_reduction<smallest>},
          {"ReduceProd", make_reduction<product>},
          {"ReduceSum", make_reduction<sum>},
          {"ReduceSumSquare", make_reduction<sum_of_squares>}};
}

}  // namespace strata::vision
