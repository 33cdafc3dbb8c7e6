// Comparisons, logic, and choices made by them.
#include "strata/vision/operators.h"
#include "strata/vision/tensor_conversion.h"

namespace strata::vision {
namespace {

template <at::Tensor (*function)(const at::Tensor&, const at::Tensor&)>
Operator make_comparison(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return [](const Tensors& in) {
    const Tensors both = on_one_device(in);
    return function(both[0], both[1]);
  };
}

Operator make_not(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  return [](const Tensors& in) { return at::logical_not(in[0]); };
}

Operator make_where(const NodeArguments& arguments) {
  arguments.expect_inputs(3, 3);
  return [](const Tensors& in) {
    const Tensors all = on_one_device(in);
    return at::where(all[0], all[1], all[2]);
  };
}

}  // namespace

OperatorTable comparison_operators() {
  return {{"And", make_comparison<at::logical_and>},
          {"Equal", make_comparison<at::eq>},
          {"Greater", make_comparison<at::gt>},
          {"GreaterOrEqual", make_comparison<at::ge>},
          {"Less", make_comparison<at::lt>},
          {"LessOrEqual", make_comparison<at::le>},
          {"Not", make_not},
          {"Or", make_comparison<at::logical_or>},
          {"Where", make_where},
          {"Xor", make_comparison<at::logical_xor>}};
}

}  // namespace strata::vision
