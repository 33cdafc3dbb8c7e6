#include "strata/vision/simplify.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/vision/node_arguments.h"
#include "strata/vision/operators.h"

namespace strata::vision {
namespace {

bool is_output(const OnnxModel& model, const std::string& name) {
  return std::any_of(model.outputs.begin(), model.outputs.end(),
                     [&](const OnnxValueInfo& output) { return output.name == name; });
}

void rename_uses(OnnxModel& model, const std::string& from, const std::string& to) {
  for (OnnxNode& node : model.nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
}

template <class Predicate>
void remove_nodes(OnnxModel& model, const Predicate& predicate) {
  auto& nodes = model.nodes;
  nodes.erase(std::remove_if(nodes.begin(), nodes.end(), predicate), nodes.end());
}

OnnxTensor value_of(const OnnxModel& model, const OnnxNode& node) {
  using Kind = OnnxAttribute::Kind;
  for (const OnnxAttribute& attribute : node.attributes) {
    if (attribute.kind == Kind::Tensor) return attribute.tensor;
    if (attribute.kind == Kind::Float) return onnx_tensor({}, {}, {attribute.real});
    if (attribute.kind == Kind::Int) return onnx_integers({}, OnnxType::Int64, {}, {attribute.integer});
    const auto count = [](const auto& list) { return static_cast<int64_t>(list.size()); };
    if (attribute.kind == Kind::Floats) return onnx_tensor({}, {count(attribute.reals)}, attribute.reals);
    if (attribute.kind == Kind::Ints)
      return onnx_integers({}, OnnxType::Int64, {count(attribute.integers)}, attribute.integers);
  }
  NodeArguments(model, node).refuse("holds no numbers, which is not supported");
}

at::Tensor tensor_of(const OnnxTensor& constant) {
  return at::tensor(constant.floats(), at::kFloat).reshape(constant.shape);
}

OnnxTensor constant_of(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kFloat).contiguous();
  const float* data = values.data_ptr<float>();
  return onnx_tensor(name, values.sizes().vec(), {data, data + values.numel()});
}

// Whether a node can be computed now: its inputs are constants, the first of which holds real numbers or
// codes of them.
bool is_constant(const OnnxModel& model, const OnnxNode& node) {
  if (node.inputs.empty() || node.outputs.size() != 1) return false;
  for (const std::string& input : node.inputs)
    if (!input.empty() && model.constant(input) == nullptr) return false;
  const OnnxTensor* first = model.constant(node.inputs.front());
  return first != nullptr && (first->is_real() || node.op_type == "DequantizeLinear");
}

void fold_constants(OnnxModel& model) {
  std::unordered_set<std::string> folded;
  for (const OnnxNode& node : model.nodes) {
    if (node.op_type == "Constant" && node.outputs.size() == 1) {
      OnnxTensor value = value_of(model, node);
      value.name = node.outputs.front();
      model.constants.push_back(std::move(value));
    } else if (is_constant(model, node)) {
      const Operator compute = make_operator(model, node);
      std::vector<at::Tensor> inputs;
      for (const std::string& input : node.inputs)
        inputs.push_back(input.empty() ? at::Tensor() : tensor_of(*model.constant(input)));
      try {
        model.constants.push_back(constant_of(node.outputs.front(), compute(inputs)));
      } catch (const c10::Error& error) {
        NodeArguments(model, node).refuse("cannot be computed on the constants that it is given");
      }
    } else {
      continue;
    }
    folded.insert(node.outputs.front());
  }
  remove_nodes(model, [&](const OnnxNode& node) {
    return !node.outputs.empty() && folded.count(node.outputs.front()) > 0;
  });
}

void remove_identities(OnnxModel& model) {
  std::unordered_set<std::string> removed;
  for (size_t n = 0; n < model.nodes.size(); ++n) {
    const OnnxNode node = model.nodes[n];
    if ((node.op_type != "Identity" && node.op_type != "Dropout") || node.inputs.empty() ||
        node.outputs.empty() || is_output(model, node.outputs.front()))
      continue;
    rename_uses(model, node.outputs.front(), node.inputs.front());
    removed.insert(node.outputs.front());
  }
  remove_nodes(model, [&](const OnnxNode& node) {
    return !node.outputs.empty() && removed.count(node.outputs.front()) > 0;
  });
}

std::unordered_map<std::string, int> count_uses(const OnnxModel& model) {
  std::unordered_map<std::string, int> uses;
  for (const OnnxNode& node : model.nodes)
    for (const std::string& input : node.inputs) ++uses[input];
  for (const OnnxValueInfo& output : model.outputs) ++uses[output.name];
  return uses;
}

bool is_layer(const OnnxNode& node) {
  return (node.op_type == "Conv" || node.op_type == "Gemm" || node.op_type == "MatMul") &&
         node.inputs.size() >= 2;
}

void unshare_weights(OnnxModel& model) {
  std::unordered_map<std::string, int> uses = count_uses(model);
  for (OnnxNode& node : model.nodes) {
    if (!is_layer(node)) continue;
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const OnnxTensor* shared = model.constant(node.inputs[i]);
      if (shared == nullptr || uses[node.inputs[i]] < 2) continue;
      OnnxTensor own = *shared;
      own.name += fmt::format("_{}", --uses[node.inputs[i]]);
      while (model.constant(own.name) != nullptr) own.name += "_";
      node.inputs[i] = own.name;
      model.constants.push_back(std::move(own));
    }
  }
}

// Folds one batch normalization into the layer before it.
void fold_into(OnnxModel& model, OnnxNode& layer, const OnnxNode& normalization) {
  const NodeArguments arguments(model, normalization);
  const NodeArguments layer_arguments(model, layer);
  const at::Tensor scale = tensor_of(arguments.constant(1, "scale")),
                   shift = tensor_of(arguments.constant(2, "bias"));
  const at::Tensor mean = tensor_of(arguments.constant(3, "mean")),
                   variance = tensor_of(arguments.constant(4, "variance"));
  const at::Tensor factor = scale / at::sqrt(variance + arguments.real("epsilon", 1e-5f));
  OnnxTensor& weight = *model.constant(layer.inputs[1]);
  const at::Tensor before = tensor_of(weight);
  const bool outputs_first = layer.op_type == "Conv" || layer_arguments.integer("transB", 0) != 0;
  const int64_t outputs = before.size(outputs_first ? 0 : 1);
  if (factor.numel() != outputs || shift.numel() != outputs || mean.numel() != outputs)
    arguments.refuse(
        fmt::format("has {} channels, but {} has {} outputs", factor.numel(), layer.label(), outputs));
  std::vector<int64_t> shape(static_cast<size_t>(before.dim()), 1);
  shape[outputs_first ? 0 : 1] = -1;
  const bool has_bias = layer_arguments.has_input(2);
  const at::Tensor bias = has_bias ? tensor_of(layer_arguments.constant(2, "bias")) : at::zeros({outputs});
  weight = constant_of(weight.name, before * factor.reshape(shape));
  const std::string bias_name = has_bias ? layer.inputs[2] : layer.outputs.front() + "_bias";
  OnnxTensor folded = constant_of(bias_name, (bias.reshape({-1}) - mean) * factor + shift);
  layer.inputs.resize(3);
  layer.inputs[2] = bias_name;
  if (has_bias)
    *model.constant(bias_name) = std::move(folded);
  else
    model.constants.push_back(std::move(folded));
}

bool can_take_normalization(const OnnxModel& model, const OnnxNode& node) {
  const NodeArguments arguments(model, node);
  if (!is_layer(node) || node.op_type == "MatMul" || model.constant(node.inputs[1]) == nullptr) return false;
  if (arguments.has_input(2) && model.constant(node.inputs[2]) == nullptr) return false;
  return node.op_type == "Conv" || (arguments.real("alpha", 1) == 1 && arguments.real("beta", 1) == 1);
}

void fold_batch_normalization(OnnxModel& model) {
  const auto uses = count_uses(model);
  std::unordered_set<std::string> folded;
  for (size_t n = 0; n < model.nodes.size(); ++n) {
    const OnnxNode normalization = model.nodes[n];
    if (normalization.op_type != "BatchNormalization") continue;
    make_operator(model, normalization);  // checks its attributes
    const auto layer = std::find_if(model.nodes.begin(), model.nodes.end(), [&](const OnnxNode& node) {
      return !node.outputs.empty() && node.outputs.front() == normalization.inputs.front();
    });
    if (layer == model.nodes.end() || uses.at(normalization.inputs.front()) != 1 ||
        !can_take_normalization(model, *layer))
      continue;
    fold_into(model, *layer, normalization);
    // The layer takes the normalization's place, so that outputs of the model keep their names.
    layer->outputs.front() = normalization.outputs.front();
    folded.insert(normalization.outputs.front());
  }
  remove_nodes(model, [&](const OnnxNode& node) {
    return node.op_type == "BatchNormalization" && folded.count(node.outputs.front()) > 0;
  });
}

void remove_unused_constants(OnnxModel& model) {
  const auto uses = count_uses(model);
  auto& constants = model.constants;
  constants.erase(std::remove_if(constants.begin(), constants.end(),
                                 [&](const OnnxTensor& tensor) { return uses.count(tensor.name) == 0; }),
                  constants.end());
}

}  // namespace

void simplify(OnnxModel& model) {
  remove_identities(model);
  fold_constants(model);
  unshare_weights(model);
  fold_batch_normalization(model);
  remove_unused_constants(model);
}

}  // namespace strata::vision
