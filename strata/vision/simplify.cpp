#include "strata/vision/simplify.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/vision/node_arguments.h"
#include "strata/vision/operators.h"
#include "strata/vision/tensor_conversion.h"

namespace strata::vision {
namespace {

void rename_uses(OnnxModel& model, const std::string& from, const std::string& to) {
  for (OnnxNode& node : model.nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
}

void remove_nodes(OnnxModel& model, const std::vector<bool>& removed) {
  std::vector<OnnxNode> kept;
  for (size_t n = 0; n < model.nodes.size(); ++n)
    if (!removed[n]) kept.push_back(std::move(model.nodes[n]));
  model.nodes = std::move(kept);
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

// Whether a node can be computed now: it reads constants alone, and gives one that is no output of the model.
bool is_constant(const OnnxModel& model, const OnnxNode& node) {
  if (node.inputs.empty() || node.outputs.size() != 1 || model.is_output(node.outputs.front())) return false;
  for (const std::string& input : node.inputs)
    if (!input.empty() && model.constant(input) == nullptr) return false;
  const auto names = operator_names();
  return node.is_standard() && std::binary_search(names.begin(), names.end(), node.op_type);
}

OnnxTensor computed_constant(const OnnxModel& model, const OnnxNode& node) {
  const Operator compute = make_operator(model, node);
  Tensors inputs;
  for (const std::string& input : node.inputs)
    inputs.push_back(input.empty() ? at::Tensor() : to_tensor(*model.constant(input)));
  try {
    return to_constant(node.outputs.front(), compute(inputs)[0]);
  } catch (const std::exception& error) {
    NodeArguments(model, node).refuse("cannot be computed on the constants that it is given");
  }
}

void fold_constants(OnnxModel& model) {
  std::vector<bool> folded(model.nodes.size(), false);
  for (size_t n = 0; n < model.nodes.size(); ++n) {
    const OnnxNode& node = model.nodes[n];
    folded[n] = true;
    if (node.op_type == "Constant" && node.outputs.size() == 1) {
      OnnxTensor value = value_of(model, node);
      value.name = node.outputs.front();
      model.constants.push_back(std::move(value));
    } else if (is_constant(model, node)) {
      model.constants.push_back(computed_constant(model, node));
    } else {
      folded[n] = false;
    }
  }
  remove_nodes(model, folded);
}

void rename_value(OnnxModel& model, const std::string& from, const std::string& to) {
  rename_uses(model, from, to);
  for (OnnxNode& node : model.nodes) std::replace(node.outputs.begin(), node.outputs.end(), from, to);
}

bool passes_through(const OnnxModel& model, const OnnxNode& node) {
  if (!node.is_standard() || node.inputs.empty() || node.outputs.empty()) return false;
  if (node.op_type == "Identity") return true;
  if (node.op_type != "Dropout") return false;
  const auto is_asked_for = [&](const std::string& mask) {
    return model.is_output(mask) ||
           std::any_of(model.nodes.begin(), model.nodes.end(), [&](const OnnxNode& other) {
             return std::find(other.inputs.begin(), other.inputs.end(), mask) != other.inputs.end();
           });
  };
  if (node.outputs.size() > 1 && !node.outputs[1].empty() && is_asked_for(node.outputs[1])) return false;
  const OnnxTensor* training = node.inputs.size() > 2 ? model.constant(node.inputs[2]) : nullptr;
  if (training != nullptr && training->floats().front() != 0)
    NodeArguments(model, node).refuse("is in training mode; export for inference");
  return true;
}

// Identity and Dropout go. One that stands between a value and an output of the model leaves the output's
// name to the value; where that has a name to keep, too, an Identity remains.
void remove_identities(OnnxModel& model) {
  std::vector<bool> removed(model.nodes.size(), false);
  for (size_t n = 0; n < model.nodes.size(); ++n) {
    if (!passes_through(model, model.nodes[n])) continue;
    const std::string input = model.nodes[n].inputs.front(), output = model.nodes[n].outputs.front();
    removed[n] = true;
    if (!model.is_output(output))
      rename_uses(model, output, input);
    else if (!model.is_output(input) && !model.is_input(input) && model.constant(input) == nullptr)
      rename_value(model, input, output);
    else
      removed[n] = false, model.nodes[n] = {"Identity", model.nodes[n].name, "", {input}, {output}, {}};
  }
  remove_nodes(model, removed);
}

std::unordered_map<std::string, int> count_uses(const OnnxModel& model) {
  std::unordered_map<std::string, int> uses;
  for (const OnnxNode& node : model.nodes)
    for (const std::string& input : node.inputs) ++uses[input];
  for (const OnnxValueInfo& output : model.outputs) ++uses[output.name];
  return uses;
}

bool is_layer(const OnnxNode& node) {
  return node.inputs.size() >= 2 && (node.op_type == "Conv" || node.op_type == "ConvTranspose" ||
                                     node.op_type == "Gemm" || node.op_type == "MatMul");
}

void unshare_weights(OnnxModel& model) {
  std::unordered_map<std::string, int> uses = count_uses(model);
  UniqueNames unique(model);
  for (OnnxNode& node : model.nodes) {
    if (!is_layer(node)) continue;
    for (std::string& input : node.inputs) {
      const OnnxTensor* shared = model.constant(input);
      if (shared == nullptr || uses[input] < 2) continue;
      OnnxTensor own = *shared;
      --uses[input];
      own.name = input = unique(own.name);
      model.constants.push_back(std::move(own));
    }
  }
}

void scale_constant(OnnxModel& model, const std::string& name, float factor) {
  OnnxTensor& constant = *model.constant(name);
  constant = to_constant(name, to_tensor(constant) * factor);
}

// The factors of a product go into its constants, which no other node uses.
void fold_factors(OnnxModel& model) {
  for (OnnxNode& node : model.nodes) {
    if (node.op_type != "Gemm" || !is_layer(node) || model.constant(node.inputs[1]) == nullptr) continue;
    const NodeArguments arguments(model, node);
    const float alpha = arguments.real("alpha", 1), beta = arguments.real("beta", 1);
    if (arguments.has_input(2) && !arguments.is_constant(2)) continue;
    if (alpha != 1) scale_constant(model, node.inputs[1], alpha);
    if (beta != 1 && arguments.has_input(2)) scale_constant(model, node.inputs[2], beta);
    node.drop("alpha");
    node.drop("beta");
  }
}

// Folds one batch normalization into the layer before it.
void fold_into(OnnxModel& model, OnnxNode& layer, const OnnxNode& normalization) {
  const NodeArguments arguments(model, normalization);
  const NodeArguments layer_arguments(model, layer);
  const at::Tensor scale = to_tensor(arguments.constant(1, "scale")),
                   shift = to_tensor(arguments.constant(2, "bias"));
  const at::Tensor mean = to_tensor(arguments.constant(3, "mean")),
                   variance = to_tensor(arguments.constant(4, "variance"));
  const at::Tensor factor = scale / at::sqrt(variance + arguments.real("epsilon", 1e-5f));
  OnnxTensor& weight = *model.constant(layer.inputs[1]);
  const at::Tensor before = to_tensor(weight);
  const bool transposed = layer.op_type == "ConvTranspose";
  const bool outputs_first = layer.op_type == "Conv" || layer_arguments.integer("transB", 0) != 0;
  const int64_t groups = transposed ? layer_arguments.integer("group", 1) : 1;
  const int64_t outputs = before.size(outputs_first ? 0 : 1) * groups;
  if (factor.numel() != outputs || shift.numel() != outputs || mean.numel() != outputs)
    arguments.refuse(
        fmt::format("has {} channels, but {} has {} outputs", factor.numel(), layer.label(), outputs));
  // A factor for every output: [out, ...], or [in, out / groups, ...], whose inputs stand group by group.
  std::vector<int64_t> shape(static_cast<size_t>(before.dim()), 1);
  shape[outputs_first ? 0 : 1] = -1;
  if (groups > 1) shape[0] = groups;
  at::Tensor factors = factor.reshape(shape);
  if (groups > 1) factors = factors.repeat_interleave(before.size(0) / groups, 0);
  const bool has_bias = layer_arguments.has_input(2);
  const at::Tensor bias = has_bias ? to_tensor(layer_arguments.constant(2, "bias")) : at::zeros({outputs});
  weight = to_constant(weight.name, before * factors);
  const std::string bias_name =
      has_bias ? layer.inputs[2] : UniqueNames(model)(layer.outputs.front() + "_bias");
  OnnxTensor folded = to_constant(bias_name, (bias.reshape({-1}) - mean) * factor + shift);
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
  return node.op_type != "Gemm" || (arguments.real("alpha", 1) == 1 && arguments.real("beta", 1) == 1);
}

void fold_batch_normalization(OnnxModel& model) {
  const auto uses = count_uses(model);
  std::vector<bool> folded(model.nodes.size(), false);
  for (size_t n = 0; n < model.nodes.size(); ++n) {
    const OnnxNode normalization = model.nodes[n];
    if (normalization.op_type != "BatchNormalization" || !normalization.is_standard()) continue;
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
    folded[n] = true;
  }
  remove_nodes(model, folded);
}

void remove_unused_constants(OnnxModel& model) {
  const auto uses = count_uses(model);
  auto& constants = model.constants;
  constants.erase(std::remove_if(constants.begin(), constants.end(),
                                 [&](const OnnxTensor& tensor) { return uses.count(tensor.name) == 0; }),
                  constants.end());
}

bool is_other_real(OnnxType type) {
  return type == OnnxType::Float16 || type == OnnxType::Double || type == OnnxType::BFloat16;
}

OnnxNode cast_node(const std::string& name, const std::string& from, const std::string& to, OnnxType type) {
  return {"Cast", name, "", {from}, {to}, {integer_attribute("to", static_cast<int64_t>(type))}};
}

// Other real numbers than float32 become float32, with a Cast at those inputs and outputs that have them.
void compute_in_float32(OnnxModel& model) {
  const auto make_float = [](OnnxTensor& constant) {
    if (constant.is_real()) constant = onnx_tensor(constant.name, constant.shape, constant.floats());
  };
  for (OnnxTensor& constant : model.constants) make_float(constant);
  for (OnnxNode& node : model.nodes)
    for (OnnxAttribute& attribute : node.attributes) {
      if (attribute.kind == OnnxAttribute::Kind::Tensor) make_float(attribute.tensor);
      if (node.op_type == "Cast" && attribute.name == "to" &&
          is_other_real(static_cast<OnnxType>(attribute.integer)))
        attribute.integer = static_cast<int64_t>(OnnxType::Float);
    }
  UniqueNames unique(model);
  for (const OnnxValueInfo& input : model.inputs) {
    if (!is_other_real(input.type)) continue;
    const std::string value = unique(input.name + "_float32");
    rename_uses(model, input.name, value);
    model.nodes.insert(model.nodes.begin(),
                       cast_node(unique(value + "_cast"), input.name, value, OnnxType::Float));
  }
  for (const OnnxValueInfo& output : model.outputs) {
    if (!is_other_real(output.type)) continue;
    const std::string value = unique(output.name + "_float32");
    rename_value(model, output.name, value);
    model.nodes.push_back(cast_node(unique(value + "_cast"), value, output.name, output.type));
  }
}

}  // namespace

void simplify(OnnxModel& model) {
  remove_identities(model);
  fold_constants(model);
  compute_in_float32(model);
  unshare_weights(model);
  fold_factors(model);
  fold_batch_normalization(model);
  remove_unused_constants(model);
}

}  // namespace strata::vision
