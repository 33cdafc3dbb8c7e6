#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "strata/vision/carried_nodes.h"
#include "strata/vision/onnx.h"
#include "strata/vision/operators.h"

namespace strata::vision {

// A convolution or matrix product with constant weights.
struct Layer {
  size_t node = 0;
  std::string tensor;  // the weight's name in the file
  at::Tensor weight;   // as stored: [out, in / groups, ...], [in, out / groups, ...] transposed, [out, in] or
                       // [in, out]
  at::Tensor bias;     // [outputs], undefined where there is none
  int64_t outputs = 0, groups = 1;
  int64_t output_axis = 0;  // the weight's dimension that has a scale for each place: that of the outputs
  int64_t channel_axis =
      1;  // of what flows in: the dimension that the weights sum over, from the end where negative
  size_t data_input = 0, weight_input = 1;  // of the node
  bool takes_bias = true;                   // MatMul has no place for one
  bool transposed = false;                  // ConvTranspose
  int64_t step = 1;                         // product of its strides

  int64_t weights() const { return weight.numel(); }
};

// A network as ONNX describes it, ready to run on LibTorch.
class Graph {
 public:
  struct Node {
    Operator compute;          // empty for nodes that are carried through (carried_nodes.h)
    std::vector<int> inputs;   // values; -1 where one is left out
    std::vector<int> outputs;  // likewise
    int layer = -1;            // index into layers()
  };

  // A tensor that goes in or comes out.
  struct Port {
    OnnxValueInfo info;  // of a value between carried and computed nodes the name alone
    int value = -1;
  };

  // Simplifies the model (simplify.h). Throws Error naming the node for what is not supported.
  Graph(OnnxModel model, at::Device device);

  const OnnxModel& model() const { return model_; }
  at::Device device() const { return device_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<at::Tensor>& constants() const { return constants_; }  // by value, undefined elsewhere

  // What is to be given and what is computed: the model's inputs and outputs, but for nodes that are carried
  // through what those before hand over and those behind take.
  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }
  std::vector<std::string> carried() const;  // labels of the nodes that are not computed

  // Sizes of an input's dimensions behind the first, which counts images; -1 where the model leaves them
  // open. Empty where it does not say how many there are.
  std::vector<int64_t> input_shape(size_t input) const;

  // For every node whether it needs, directly or not, the output of `node`, or is that node.
  std::vector<bool> followers(size_t node) const;

  // Layers that no layer stands before, or behind.
  std::vector<size_t> first_layers() const;
  std::vector<size_t> last_layers() const;

  // Whether several images may run together: not in a network that mixes what it is given at once.
  bool runs_images_together() const { return together_; }
  void run_images_alone() { together_ = false; }

 private:
  bool is_layer(const OnnxNode& node) const;
  void add_layer(size_t node);
  void find_ports(const std::vector<NodeRole>& roles, const std::unordered_map<std::string, int>& values);

  OnnxModel model_;
  at::Device device_;
  std::vector<Node> nodes_;
  std::vector<Layer> layers_;
  std::vector<at::Tensor> constants_;
  std::vector<Port> inputs_, outputs_;
  bool together_ = true;
};

// What is different about one layer in one run. What is undefined or empty stays as it is.
struct LayerOverride {
  at::Tensor weight, bias;
  std::function<at::Tensor(const at::Tensor&)> input, output;  // replace what flows in and out
  std::function<at::Tensor(const at::Tensor&)> whole;  // computes the layer from what flows in; the rest but
                                                       // output then has no say
};

// One a layer, or none at all for the network as it is.
using Overrides = std::vector<LayerOverride>;

// Sees the first output of every node that is computed.
using OutputObserver = std::function<void(size_t node, const at::Tensor& output)>;

// A batch of images on its way through a graph. Values are freed after their last use. A copy is cheap and
// goes its own way from where the original stands, so that a change to one layer costs only what follows it.
class Execution {
 public:
  // `inputs` in the order of graph.inputs(), each with the images as its first dimension.
  Execution(const Graph& graph, const Tensors& inputs);

  // Computes all nodes before `node`.
  void run_before(size_t node, const Overrides& overrides = {}, const OutputObserver& observer = {});

  // Computes the rest and returns what comes out, in the order of graph.outputs().
  Tensors finish(const Overrides& overrides = {}, const OutputObserver& observer = {});

 private:
  void compute(size_t node, const Overrides& overrides, const OutputObserver& observer);
  Outputs computed(size_t node, const Tensors& inputs) const;

  const Graph* graph_;
  std::vector<at::Tensor> values_;
  std::vector<int> uses_left_;
  std::vector<bool> done_;
};

// Multiplications of every layer for one image, given as the graph's inputs for it.
std::vector<int64_t> count_multiplications(const Graph& graph, const Tensors& image);

}  // namespace strata::vision
