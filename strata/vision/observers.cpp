#include "strata/vision/observers.h"

#include <algorithm>

#include "strata/core/error.h"

namespace strata::vision {
namespace {

// The only node that uses a value; none when several do.
int only_consumer(const Graph& graph, int value) {
  int consumer = -1;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const auto& inputs = graph.nodes()[n].inputs;
    if (std::find(inputs.begin(), inputs.end(), value) == inputs.end()) continue;
    if (consumer >= 0) return -1;
    consumer = static_cast<int>(n);
  }
  return consumer;
}

int computed_inputs(const Graph& graph, const Graph::Node& node) {
  return static_cast<int>(std::count_if(node.inputs.begin(), node.inputs.end(), [&](int value) {
    return value >= 0 && !graph.constants()[static_cast<size_t>(value)].defined();
  }));
}

bool is_activation(const std::string& op) {
  return op == "Relu" || op == "Clip" || op == "HardSwish" || op == "Sigmoid" || op == "HardSigmoid";
}

}  // namespace

std::vector<size_t> observer_nodes(const Graph& graph, ObserverChoice choice) {
  std::vector<size_t> nodes;
  if (choice == ObserverChoice::Blocks) {
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      const std::string& op = graph.model().nodes[n].op_type;
      if ((op != "Add" && op != "Concat") || computed_inputs(graph, graph.nodes()[n]) < 2) continue;
      if (!graph.nodes()[n].compute) continue;
      const int next = only_consumer(graph, graph.nodes()[n].outputs.front());
      const bool activated =
          next >= 0 && is_activation(graph.model().nodes[static_cast<size_t>(next)].op_type);
      nodes.push_back(activated ? static_cast<size_t>(next) : n);
    }
    if (nodes.empty()) choice = ObserverChoice::Layers;
  }
  if (choice == ObserverChoice::Layers)
    for (const Layer& layer : graph.layers()) nodes.push_back(layer.node);
  for (size_t l : graph.last_layers()) {
    const Layer& layer = graph.layers()[l];
    const int flow = graph.nodes()[layer.node].inputs[layer.data_input];
    for (size_t n = 0; n < layer.node; ++n)
      if (graph.nodes()[n].compute && graph.nodes()[n].outputs.front() == flow) nodes.push_back(n);
    nodes.push_back(layer.node);
  }
  std::sort(nodes.begin(), nodes.end());
  nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
  return nodes;
}

at::Tensor pooled_features(const at::Tensor& output) {
  return output.dim() > 2 ? output.flatten(2).mean(2) : output.flatten(1);
}

at::Tensor stem_features(const at::Tensor& output) {
  if (output.dim() != 4) return output.flatten(1);
  return at::adaptive_avg_pool2d(output,
                                 {std::min<int64_t>(4, output.size(2)), std::min<int64_t>(4, output.size(3))})
      .flatten(1);
}

}  // namespace strata::vision
