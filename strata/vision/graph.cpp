#include "strata/vision/graph.h"

#include <ATen/Context.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/vision/node_arguments.h"
#include "strata/vision/simplify.h"

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
    return values.emplace(name, static_cast<int>(values.size())).first->second;
  };
  for (const OnnxNode& onnx : model_.nodes) {
    const NodeArguments arguments(model_, onnx);
    Node node;
    node.compute = make_operator(model_, onnx);
    if (onnx.outputs.empty()) arguments.refuse("has no output");
    for (const std::string& input : onnx.inputs) node.inputs.push_back(input.empty() ? -1 : value_of(input));
    node.output = value_of(onnx.outputs.front());
    nodes_.push_back(std::move(node));
  }
  if (model_.inputs.size() != 1)
    fail(
        "{} has {} inputs ({}), expected one, the images; export it with its weights inside",
        model_.path.string(), model_.inputs.size(), model_.inputs.empty() ? "none" : [&] {
          std::vector<std::string> names;
          for (const OnnxValueInfo& input : model_.inputs) names.push_back(printable(input.name));
          names.resize(std::min<size_t>(names.size(), 5));
          return fmt::format("{}", fmt::join(names, ", "));
        }());
  if (model_.outputs.empty()) fail("{} has no output", model_.path.string());
  input_ = value_of(model_.inputs.front().name);
  output_ = value_of(model_.outputs.front().name);
  constants_.resize(values.size());
  for (const OnnxTensor& constant : model_.constants) {
    if (!constant.is_real() || values.count(constant.name) == 0) continue;
    const at::Tensor tensor = at::tensor(constant.floats(), at::kFloat).reshape(constant.shape);
    if (!at::isfinite(tensor).all().item<bool>())
      fail("{}: the constant '{}' holds a value that is infinite or not a number", model_.path.string(),
           printable(constant.name));
    constants_[static_cast<size_t>(values[constant.name])] = tensor.to(device_);
  }
  for (size_t n = 0; n < nodes_.size(); ++n) add_layer(n);
  if (layers_.empty())
    fail("{} has no convolution or matrix product with constant weights: there is nothing to quantize",
         model_.path.string());
}

void Graph::add_layer(size_t index) {
  const OnnxNode& onnx = model_.nodes[index];
  Node& node = nodes_[index];
  const bool conv = onnx.op_type == "Conv", gemm = onnx.op_type == "Gemm";
  if (!conv && !gemm && onnx.op_type != "MatMul") return;
  const at::Tensor& weight = constants_[static_cast<size_t>(node.inputs[1])];
  const NodeArguments arguments(model_, onnx);
  if (!weight.defined() || constants_[static_cast<size_t>(node.inputs[0])].defined()) return;
  if ((gemm || onnx.op_type == "MatMul") && weight.dim() != 2) return;
  if (gemm && (arguments.integer("transA", 0) != 0 || arguments.real("alpha", 1) != 1)) return;
  Layer layer;
  layer.node = index;
  layer.tensor = onnx.inputs[1];
  layer.weight = weight;
  layer.output_axis = conv || arguments.integer("transB", 0) != 0 ? 0 : 1;
  layer.groups = conv ? arguments.integer("group", 1) : 1;
  layer.takes_bias = onnx.op_type != "MatMul";
  if (arguments.has_input(2)) {
    layer.bias = constants_[static_cast<size_t>(node.inputs[2])];
    if (!layer.bias.defined() || layer.bias.numel() != layer.outputs() || arguments.real("beta", 1) != 1)
      arguments.refuse(
          fmt::format("has a bias that is not one constant for each of its {} outputs", layer.outputs()));
    layer.bias = layer.bias.reshape({-1});
    constants_[static_cast<size_t>(node.inputs[2])] = layer.bias;
  } else if (layer.takes_bias) {
    node.inputs.resize(3, -1);
  }
  node.layer = static_cast<int>(layers_.size());
  layers_.push_back(std::move(layer));
}

std::vector<int64_t> Graph::image_shape() const {
  const OnnxValueInfo& input = model_.inputs.front();
  if (!input.has_shape) return {-1, -1, -1};
  if (input.shape.size() != 4)
    fail("{}: the input '{}' has {} dimensions, expected 4: images, channels, height, width",
         model_.path.string(), printable(input.name), input.shape.size());
  return {input.shape[1], input.shape[2], input.shape[3]};
}

std::vector<bool> Graph::followers(size_t start) const {
  std::vector<bool> changed_values(constants_.size(), false), result(nodes_.size(), false);
  for (size_t n = start; n < nodes_.size(); ++n) {
    result[n] = n == start || std::any_of(nodes_[n].inputs.begin(), nodes_[n].inputs.end(), [&](int value) {
                  return value >= 0 && changed_values[static_cast<size_t>(value)];
                });
    if (result[n]) changed_values[static_cast<size_t>(nodes_[n].output)] = true;
  }
  return result;
}

Execution::Execution(const Graph& graph, const at::Tensor& images)
    : graph_(&graph),
      values_(graph.constants().size()),
      uses_left_(graph.constants().size(), 0),
      done_(graph.nodes().size(), false) {
  values_[static_cast<size_t>(graph.input())] = images;
  for (const Graph::Node& node : graph.nodes())
    for (int input : node.inputs)
      if (input >= 0) ++uses_left_[static_cast<size_t>(input)];
  ++uses_left_[static_cast<size_t>(graph.output())];
}

void Execution::run_before(size_t node, const Overrides& overrides, const OutputObserver& observer) {
  for (size_t n = 0; n < node; ++n) compute(n, overrides, observer);
}

at::Tensor Execution::finish(const Overrides& overrides, const OutputObserver& observer) {
  for (size_t n = 0; n < done_.size(); ++n) compute(n, overrides, observer);
  return values_[static_cast<size_t>(graph_->output())];
}

void Execution::compute(size_t n, const Overrides& overrides, const OutputObserver& observer) {
  if (done_[n]) return;
  done_[n] = true;
  const Graph::Node& node = graph_->nodes()[n];
  std::vector<at::Tensor> inputs;
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
  if (change != nullptr) {
    if (change->input) inputs[0] = change->input(inputs[0]);
    if (change->weight.defined()) inputs[1] = change->weight;
    if (change->bias.defined() && inputs.size() > 2) inputs[2] = change->bias;
  }
  at::Tensor output;
  try {
    output = node.compute(inputs);
  } catch (const c10::Error& error) {
    std::vector<std::string> shapes;
    for (const at::Tensor& input : inputs)
      if (input.defined()) shapes.push_back(fmt::format("{}", fmt::join(input.sizes().vec(), "x")));
    fail("{}: {} cannot be computed on inputs of {}: {}", graph_->model().path.string(),
         graph_->model().nodes[n].label(), fmt::join(shapes, " and "),
         first_line(error.what_without_backtrace()));
  }
  if (change != nullptr && change->output) output = change->output(output);
  if (observer) observer(n, output);
  if (uses_left_[static_cast<size_t>(node.output)] > 0)
    values_[static_cast<size_t>(node.output)] = std::move(output);
}

std::vector<int64_t> count_multiplications(const Graph& graph, const std::vector<int64_t>& image_shape) {
  std::vector<int64_t> counts(graph.layers().size(), 0);
  const at::Tensor image =
      at::zeros({1, image_shape[0], image_shape[1], image_shape[2]}, at::TensorOptions(graph.device()));
  Execution(graph, image).finish({}, [&](size_t n, const at::Tensor& output) {
    const int l = graph.nodes()[n].layer;
    if (l < 0) return;
    const Layer& layer = graph.layers()[static_cast<size_t>(l)];
    counts[static_cast<size_t>(l)] = output.numel() / layer.outputs() * layer.weights();
  });
  return counts;
}

}  // namespace strata::vision
