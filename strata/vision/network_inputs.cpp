#include "strata/vision/network_inputs.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/vision/tensor_conversion.h"

namespace strata::vision {
namespace {

constexpr double kSame = 1e-3;  // relative difference that the order of sums explains

bool is_close(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  const at::Tensor x = a.to(at::kFloat), y = b.to(at::kFloat);
  return (x - y).norm().item<double>() <= kSame * x.norm().item<double>();
}

// Whether what the first two images give together is not what each gives alone.
bool mixes_images(const Graph& graph, const ImageSet& images) {
  const c10::InferenceMode inference;
  Tensors together;
  try {
    together = Execution(graph, images.batch(0, 2, graph.device())).finish();
  } catch (const Error&) {
    return true;
  }
  for (int64_t i = 0; i < 2; ++i) {
    const Tensors alone = Execution(graph, images.batch(i, 1, graph.device())).finish();
    for (size_t o = 0; o < alone.size(); ++o) {
      const at::Tensor& all = together[o];
      if (all.dim() == 0 || all.size(0) != 2 || !is_close(alone[o], all.narrow(0, i, 1))) return true;
    }
  }
  return false;
}

}  // namespace

ImageSet load_inputs(const ImageOptions& options, Graph& graph) {
  std::vector<InputShape> inputs;
  for (size_t i = 0; i < graph.inputs().size(); ++i)
    inputs.push_back({graph.inputs()[i].info.name, graph.input_shape(i)});
  ImageSet images = load_images(options, inputs);
  if (images.size() > 1 && mixes_images(graph, images)) graph.run_images_alone();
  return images;
}

bool has_fixed_inputs(const Graph& graph) {
  for (size_t i = 0; i < graph.inputs().size(); ++i) {
    const std::vector<int64_t> shape = graph.input_shape(i);
    if (shape.empty() || std::any_of(shape.begin(), shape.end(), [](int64_t size) { return size < 1; }))
      return false;
  }
  return true;
}

Tensors blank_inputs(const Graph& graph) {
  Tensors inputs;
  for (size_t i = 0; i < graph.inputs().size(); ++i) {
    std::vector<int64_t> shape = graph.input_shape(i);
    shape.insert(shape.begin(), 1);
    const at::ScalarType type = scalar_type_of(graph.inputs()[i].info.type);
    inputs.push_back(at::zeros(shape, at::TensorOptions(graph.device()).dtype(type)));
  }
  return inputs;
}

}  // namespace strata::vision
