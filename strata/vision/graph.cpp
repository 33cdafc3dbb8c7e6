#include "strata/vision/graph.h"

#include <ATen/Context.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/vision/node_arguments.h"
#include "strata/vision/simplify.h"
#include "strata/vision/tensor_conversion.h"

namespace strata::vision {
namespace {

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace

Graph::Graph(OnnxModel model, at::Device device) : model_(std::move(model)), device_(device) {
  // By default cuDNN rounds what convolutions multiply to 10 bits of mantissa.
  if (device_.is_cuda()) at::globalContext().setAllowTF32CuDNN(false);
  simplify(model_);
  std::unordered_map<std::string, int> values;
  const auto value_of = [&](const std::string& name) {
    return name.empty() ? -1 : values.emplace(name, static_cast<int>(values.size())).first->second;
  };
  std::vector<std::string> refusals;
  std::vector<bool> layers;
  for (const OnnxNode& onnx : model_.nodes) {
    Node node;
    layers.push_back(is_layer(onnx));
    refusals.emplace_back();
    try {
      if (onnx.outputs.empty()) NodeArguments(model_, onnx).refuse("has no output");
      node.compute = make_operator(model_, onnx);
    } catch (const Error& error) {
      refusals.back() = error.what();
    }
    for (const std::string& input : onnx.inputs) node.inputs.push_back(value_of(input));
    for (const std::string& output : onnx.outputs) node.outputs.push_back(value_of(output));
    nodes_.push_back(std::move(node));
  }
  for (const OnnxValueInfo& input : model_.inputs) value_of(input.name);
  constants_.resize(values.size());
  for (const OnnxTensor& constant : model_.constants) {
    if (values.count(constant.name) == 0) continue;
    const at::Tensor tensor = to_tensor(constant);
    if (tensor.is_floating_point() && tensor.isnan().any().item<bool>())
      fail("{}: the constant '{}' holds a value that is not a number", model_.path.string(),
           printable(constant.name));
    constants_[static_cast<size_t>(values[constant.name])] =
        tensor.is_floating_point() ? tensor.to(device_) : tensor;
  }
  const std::vector<NodeRole> roles = node_roles(model_, refusals, layers);
  for (size_t n = 0; n < nodes_.size(); ++n) {
    if (roles[n] != NodeRole::Computed) nodes_[n].compute = {};
    if (roles[n] == NodeRole::Computed && layers[n]) add_layer(n);
  }
  find_ports(roles, values);
  if (layers_.empty())
    fail("{} has no convolution or matrix product with constant weights: there is nothing to quantize",
         model_.path.string());
}

void Graph::find_ports(const std::vector<NodeRole>& roles,
                       const std::unordered_map<std::string, int>& values) {
  const auto port = [&](const std::string& name) {
    OnnxValueInfo info;
    info.name = name;
    for (const std::vector<OnnxValueInfo>* known : {&model_.inputs, &model_.outputs})
      for (const OnnxValueInfo& value : *known)
        if (value.name == name) info = value;
    return Port{info, values.at(name)};
  };
  const auto add = [&](std::vector<Port>& ports, const std::string& name) {
    for (const Port& known : ports)
      if (known.info.name == name) return;
    ports.push_back(port(name));
  };
  std::unordered_map<std::string, NodeRole> producer;
  for (size_t n = 0; n < nodes_.size(); ++n)
    for (const std::string& output : model_.nodes[n].outputs) producer[output] = roles[n];
  const auto is_computed = [&](const std::string& name) {
    const auto found = producer.find(name);
    return found != producer.end() && found->second == NodeRole::Computed;
  };
  for (const OnnxValueInfo& output : model_.outputs)
    if (is_computed(output.name)) add(outputs_, output.name);
  for (const OnnxValueInfo& input : model_.inputs)  // in the model's order
    for (size_t n = 0; n < nodes_.size(); ++n)
      for (const std::string& name : model_.nodes[n].inputs)
        if (roles[n] == NodeRole::Computed && name == input.name) add(inputs_, name);
  for (size_t n = 0; n < nodes_.size(); ++n)
    for (const std::string& name : model_.nodes[n].inputs) {
      if (name.empty() || model_.constant(name) != nullptr) continue;
      if (roles[n] == NodeRole::Computed && !is_computed(name)) add(inputs_, name);
      if (roles[n] == NodeRole::Behind && is_computed(name)) add(outputs_, name);
    }
  if (inputs_.empty()) fail("{} has no input that its layers need", model_.path.string());
  if (outputs_.empty()) fail("{} has no output that can be computed", model_.path.string());
}

bool Graph::is_layer(const OnnxNode& onnx) const {
  if (!onnx.is_standard() || onnx.inputs.size() < 2) return false;
  const OnnxTensor *left = model_.constant(onnx.inputs[0]), *right = model_.constant(onnx.inputs[1]);
  const NodeArguments arguments(model_, onnx);
  if (onnx.op_type == "Conv" || onnx.op_type == "ConvTranspose") return true;
  if (onnx.op_type == "Gemm")
    return right != nullptr && left == nullptr && right->shape.size() == 2 &&
           arguments.integer("transA", 0) == 0 && arguments.real("alpha", 1) == 1;
  if (onnx.op_type != "MatMul" || (left == nullptr) == (right == nullptr)) return false;
  return (left != nullptr ? left : right)->shape.size() == 2;
}

void Graph::add_layer(size_t index) {
  const OnnxNode& onnx = model_.nodes[index];
  Node& node = nodes_[index];
  const NodeArguments arguments(model_, onnx);
  Layer layer;
  layer.node = index;
  if (onnx.op_type == "MatMul" && arguments.is_constant(0)) std::swap(layer.data_input, layer.weight_input);
  layer.tensor = onnx.inputs[layer.weight_input];
  layer.weight = constants_[static_cast<size_t>(node.inputs[layer.weight_input])];
  if (!layer.weight.is_floating_point() || !at::isfinite(layer.weight).all().item<bool>())
    arguments.refuse(
        fmt::format("has the weight '{}', which holds whole numbers or a value that is not finite",
                    printable(layer.tensor)));
  layer.groups = arguments.integer("group", 1);
  layer.transposed = onnx.op_type == "ConvTranspose";
  if (onnx.op_type == "Gemm") {
    layer.output_axis = arguments.integer("transB", 0) != 0 ? 0 : 1;
    layer.channel_axis = -1;
  } else if (onnx.op_type == "MatMul") {
    layer.takes_bias = false;
    layer.output_axis = layer.weight_input == 1 ? 1 : 0;
    layer.channel_axis = layer.weight_input == 1 ? -1 : -2;
  } else if (layer.transposed) {
    layer.output_axis =
        layer.groups == 1 ? 1 : 0;  // of groups the inputs', which an output of each group shares
    for (int64_t stride : arguments.integers("strides", {})) layer.step *= stride;
  }
  layer.outputs =
      layer.weight.size(layer.transposed ? 1 : layer.output_axis) * (layer.transposed ? layer.groups : 1);
  if (arguments.has_input(2)) {
    layer.bias = constants_[static_cast<size_t>(node.inputs[2])];
    if (layer.bias.defined() && layer.bias.numel() == 1)
      layer.bias = layer.bias.reshape({1}).repeat(layer.outputs);
    if (!layer.bias.defined() || layer.bias.numel() != layer.outputs || arguments.real("beta", 1) != 1)
      arguments.refuse(
          fmt::format("has a bias that is not one constant for each of its {} outputs", layer.outputs));
    layer.bias = layer.bias.reshape({-1});
    constants_[static_cast<size_t>(node.inputs[2])] = layer.bias;
  } else if (layer.takes_bias) {
    node.inputs.resize(3, -1);
  }
  node.layer = static_cast<int>(layers_.size());
  layers_.push_back(std::move(layer));
}

std::vector<std::string> Graph::carried() const {
  std::vector<std::string> labels;
  for (size_t n = 0; n < nodes_.size(); ++n)
    if (!nodes_[n].compute) labels.push_back(model_.nodes[n].label());
  return labels;
}

std::vector<int64_t> Graph::input_shape(size_t input) const {
  const std::vector<int64_t>& shape = inputs_[input].info.shape;
  return shape.empty() ? shape : std::vector<int64_t>(shape.begin() + 1, shape.end());
}

std::vector<bool> Graph::followers(size_t start) const {
  std::vector<bool> changed_values(constants_.size(), false), result(nodes_.size(), false);
  for (size_t n = start; n < nodes_.size(); ++n) {
    result[n] = n == start || std::any_of(nodes_[n].inputs.begin(), nodes_[n].inputs.end(), [&](int value) {
                  return value >= 0 && changed_values[static_cast<size_t>(value)];
                });
    for (int value : nodes_[n].outputs)
      if (result[n] && value >= 0) changed_values[static_cast<size_t>(value)] = true;
  }
  return result;
}

std::vector<size_t> Graph::first_layers() const {
  std::vector<bool> behind_another(layers_.size(), false);
  for (const Layer& layer : layers_) {
    const std::vector<bool> reached = followers(layer.node);
    for (size_t l = 0; l < layers_.size(); ++l)
      if (layers_[l].node != layer.node && reached[layers_[l].node]) behind_another[l] = true;
  }
  std::vector<size_t> first;
  for (size_t l = 0; l < layers_.size(); ++l)
    if (!behind_another[l]) first.push_back(l);
  return first;
}

std::vector<size_t> Graph::last_layers() const {
  std::vector<size_t> last;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const std::vector<bool> reached = followers(layers_[l].node);
    if (std::none_of(layers_.begin(), layers_.end(), [&](const Layer& other) {
          return other.node != layers_[l].node && reached[other.node];
        }))
      last.push_back(l);
  }
  return last;
}

Execution::Execution(const Graph& graph, const Tensors& inputs)
    : graph_(&graph),
      values_(graph.constants().size()),
      uses_left_(graph.constants().size(), 0),
      done_(graph.nodes().size(), false) {
  if (inputs.size() != graph.inputs().size())
    fail("{} takes {} inputs, but {} were given", graph.model().path.string(), graph.inputs().size(),
         inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    values_[static_cast<size_t>(graph.inputs()[i].value)] = inputs[i];
  for (size_t n = 0; n < done_.size(); ++n) {
    done_[n] = !graph.nodes()[n].compute;
    if (done_[n]) continue;
    for (int input : graph.nodes()[n].inputs)
      if (input >= 0) ++uses_left_[static_cast<size_t>(input)];
  }
  for (const Graph::Port& output : graph.outputs()) ++uses_left_[static_cast<size_t>(output.value)];
}

void Execution::run_before(size_t node, const Overrides& overrides, const OutputObserver& observer) {
  for (size_t n = 0; n < node; ++n) compute(n, overrides, observer);
}

Tensors Execution::finish(const Overrides& overrides, const OutputObserver& observer) {
  for (size_t n = 0; n < done_.size(); ++n) compute(n, overrides, observer);
  Tensors outputs;
  for (const Graph::Port& output : graph_->outputs())
    outputs.push_back(values_[static_cast<size_t>(output.value)]);
  return outputs;
}

void Execution::compute(size_t n, const Overrides& overrides, const OutputObserver& observer) {
  if (done_[n]) return;
  done_[n] = true;
  const Graph::Node& node = graph_->nodes()[n];
  Tensors inputs;
  for (int value : node.inputs) {
    if (value < 0) {
      inputs.emplace_back();
      continue;
    }
    const auto v = static_cast<size_t>(value);
    const at::Tensor& constant = graph_->constants()[v];
    inputs.push_back(constant.defined() ? constant : values_[v]);
    if (--uses_left_[v] == 0) values_[v] = at::Tensor();
  }
  const LayerOverride* change =
      node.layer >= 0 && !overrides.empty() ? &overrides[static_cast<size_t>(node.layer)] : nullptr;
  const bool by_itself = change != nullptr && change->whole;
  if (change != nullptr && !by_itself) {
    const Layer& layer = graph_->layers()[static_cast<size_t>(node.layer)];
    if (change->input) inputs[layer.data_input] = change->input(inputs[layer.data_input]);
    if (change->weight.defined()) inputs[layer.weight_input] = change->weight;
    if (change->bias.defined() && inputs.size() > 2) inputs[2] = change->bias;
  }
  Outputs outputs = by_itself
                        ? change->whole(inputs[graph_->layers()[static_cast<size_t>(node.layer)].data_input])
                        : computed(n, inputs);
  if (change != nullptr && change->output) outputs[0] = change->output(outputs[0]);
  if (observer) observer(n, outputs[0]);
  for (size_t o = 0; o < outputs.size() && o < node.outputs.size(); ++o) {
    if (node.outputs[o] < 0 || uses_left_[static_cast<size_t>(node.outputs[o])] == 0) continue;
    // Real numbers are computed on the graph's device, also those that began as a shape.
    values_[static_cast<size_t>(node.outputs[o])] =
        outputs[o].is_floating_point() ? outputs[o].to(graph_->device()) : outputs[o];
  }
}

Outputs Execution::computed(size_t n, const Tensors& inputs) const {
  const auto refuse = [&](const std::string& reason) {
    std::vector<std::string> shapes;
    for (const at::Tensor& input : inputs)
      if (input.defined()) shapes.push_back(fmt::format("{}", fmt::join(input.sizes().vec(), "x")));
    fail("{}: {} cannot be computed on inputs of {}: {}", graph_->model().path.string(),
         graph_->model().nodes[n].label(), fmt::join(shapes, " and "), first_line(reason));
  };
  try {
    return graph_->nodes()[n].compute(inputs);
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& error) {
    refuse(error.what_without_backtrace());
  } catch (const std::exception& error) {  // LibTorch throws others, too
    refuse(error.what());
  }
  return Tensors{};
}

std::vector<int64_t> count_multiplications(const Graph& graph, const Tensors& image) {
  std::vector<int64_t> counts(graph.layers().size(), 0);
  Overrides overrides(graph.layers().size());
  for (size_t l = 0; l < overrides.size(); ++l) {
    const Layer& layer = graph.layers()[l];
    if (!layer.transposed) continue;  // whose weights meet every place that flows in
    overrides[l].input = [&counts, &layer, l](const at::Tensor& input) {
      counts[l] = input.numel() / input.size(1) * layer.weights();
      return input;
    };
  }
  Execution(graph, image).finish(overrides, [&](size_t n, const at::Tensor& output) {
    const int l = graph.nodes()[n].layer;
    if (l < 0) return;
    const Layer& layer = graph.layers()[static_cast<size_t>(l)];
    if (!layer.transposed) counts[static_cast<size_t>(l)] = output.numel() / layer.outputs * layer.weights();
  });
  return counts;
}

}  // namespace strata::vision
