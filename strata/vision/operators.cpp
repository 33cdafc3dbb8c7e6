#include "strata/vision/operators.h"

#include <fmt/ranges.h>

namespace strata::vision {
namespace {

const OperatorTable& all_operators() {
  static const OperatorTable table = [] {
    OperatorTable all;
    for (OperatorTable kind : {layer_operators(), elementwise_operators(), comparison_operators(),
                               pooling_operators(), normalization_operators(), reduction_operators(),
                               shape_operators(), shape_computations(), resize_operators(), code_operators()})
      all.merge(kind);
    return all;
  }();
  return table;
}

}  // namespace

Operator make_operator(const OnnxModel& model, const OnnxNode& node) {
  const NodeArguments arguments(model, node);
  const auto found = all_operators().find(node.op_type);
  if (found == all_operators().end() || !node.is_standard())
    arguments.refuse(fmt::format("is an operator that is not supported; known are {}, Constant",
                                 fmt::join(operator_names(), ", ")));
  return found->second(arguments);
}

std::vector<std::string> operator_names() {
  std::vector<std::string> names;
  for (const auto& [name, maker] : all_operators()) names.push_back(name);
  return names;
}

}  // namespace strata::vision
