#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

#include "strata/vision/onnx.h"
#include "strata/vision/operators.h"

namespace strata::vision {

// A convolution or matrix product with constant weights.
struct Layer {
  size_t node = 0;
  std::string tensor;       // the weight's name in the file
  at::Tensor weight;        // as stored: [out, in / groups, h, w], [out, in] or [in, out]
  at::Tensor bias;          // [out], undefined where there is none
  int64_t output_axis = 0;  // the weight's dimension that counts outputs
  int64_t groups = 1;
  bool takes_bias = true;  // MatMul has no place for one

  int64_t outputs() const { return weight.size(output_axis); }
  int64_t weights() const { return weight.numel(); }
};

// A convolutional network as ONNX describes it, ready to run on LibTorch.
class Graph {
 public:
  struct Node {
    Operator compute;
    std::vector<int> inputs;  // values; -1 where one is left out
    int output = -1;
    int layer = -1;  // index into layers()
  };

  // Simplifies the model (simplify.h). Throws Error naming the node for what is not supported, and for models
  // with other than one input of images.
  Graph(OnnxModel model, at::Device device);

  const OnnxModel& model() const { return model_; }
  at::Device device() const { return device_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<at::Tensor>& constants() const { return constants_; }  // by value, undefined elsewhere
  int input() const { return input_; }
  int output() const { return output_; }

  // Channels, height and width that the model asks for; -1 where it leaves them open.
  std::vector<int64_t> image_shape() const;

  // For every node whether it needs, directly or not, the output of `node`, or is that node.
  std::vector<bool> followers(size_t node) const;

 private:
  void add_layer(size_t node);

  OnnxModel model_;
  at::Device device_;
  std::vector<Node> nodes_;
  std::vector<Layer> layers_;
  std::vector<at::Tensor> constants_;
  int input_ = -1, output_ = -1;
};

// What is different about one layer in one run. What is undefined or empty stays as it is.
struct LayerOverride {
  at::Tensor weight, bias;
  std::function<at::Tensor(const at::Tensor&)> input, output;  // replace what flows in and out
};

// One a layer, or none at all for the network as it is.
using Overrides = std::vector<LayerOverride>;

// Sees the output of every node that is computed.
using OutputObserver = std::function<void(size_t node, const at::Tensor& output)>;

// A batch of images [N, C, H, W] on its way through a graph. Values are freed after their last use. A copy is
// cheap and goes its own way from where the original stands, so that a change to one layer costs only what
// follows it.
class Execution {
 public:
  Execution(const Graph& graph, const at::Tensor& images);

  // Computes all nodes before `node`.
  void run_before(size_t node, const Overrides& overrides = {}, const OutputObserver& observer = {});

  // Computes the rest and returns the graph's output.
  at::Tensor finish(const Overrides& overrides = {}, const OutputObserver& observer = {});

 private:
  void compute(size_t node, const Overrides& overrides, const OutputObserver& observer);

  const Graph* graph_;
  std::vector<at::Tensor> values_;
  std::vector<int> uses_left_;
  std::vector<bool> done_;
};

// Multiplications of every layer for one image of [channels, height, width].
std::vector<int64_t> count_multiplications(const Graph& graph, const std::vector<int64_t>& image_shape);

}  // namespace strata::vision
