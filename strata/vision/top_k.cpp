#include "strata/vision/top_k.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"
#include "strata/device/device.h"
#include "strata/vision/batches.h"

namespace strata::vision {

at::Tensor logits_of(const Graph& graph, const Tensors& outputs, int64_t images) {
  const at::Tensor& first = outputs.front();
  if (first.dim() < 2 || first.size(0) != images || first.numel() != images * first.size(1))
    fail("{}: the output '{}' has {} values for {} images, expected one row of classes for each image",
         graph.model().path.string(), printable(graph.outputs().front().info.name),
         fmt::join(first.sizes().vec(), " x "), images);
  return first.reshape({images, -1}).to(at::kFloat);
}

bool gives_classes(const Tensors& outputs) {
  const at::Tensor& first = outputs.front();
  return first.dim() >= 2 && first.size(1) >= 2 && first.numel() == first.size(0) * first.size(1);
}

Tensors compute_outputs(const Graph& graph, const ImageSet& images, const Overrides& overrides) {
  use_threads();
  Progress progress("Evaluating", images.size(), "images");
  std::vector<Tensors> parts(static_cast<size_t>(batch_count(images.size(), graph)));
  for_each_batch(images.size(), graph, [&](int64_t index, int64_t first, int64_t count) {
    Tensors& part = parts[static_cast<size_t>(index)];
    part = Execution(graph, images.batch(first, count, graph.device())).finish(overrides);
    for (at::Tensor& output : part) output = output.to(at::kCPU, at::kFloat);
    progress.advance(count);
  });
  Tensors outputs;
  for (size_t o = 0; o < graph.outputs().size(); ++o) {
    Tensors of_output;
    for (const Tensors& part : parts) of_output.push_back(part[o]);
    for (const at::Tensor& part : of_output)
      if (part.dim() == 0 || part.sizes().slice(1) != of_output.front().sizes().slice(1))
        fail("{}: the output '{}' is {} for some images and {} for others; they cannot be measured together",
             graph.model().path.string(), printable(graph.outputs()[o].info.name),
             fmt::join(of_output.front().sizes().vec(), " x "), fmt::join(part.sizes().vec(), " x "));
    outputs.push_back(at::cat(of_output));
  }
  return outputs;
}

at::Tensor compute_logits(const Graph& graph, const ImageSet& images, const Overrides& overrides) {
  return logits_of(graph, compute_outputs(graph, images, overrides), images.size());
}

Accuracy accuracy_of(const at::Tensor& logits, const ImageSet& images) {
  const int64_t classes = logits.size(1);
  images.check_labels(classes);
  const at::Tensor rows = logits.contiguous();
  const at::Tensor log_probabilities = at::log_softmax(rows, 1);
  const float *data = rows.data_ptr<float>(), *log_data = log_probabilities.data_ptr<float>();
  Accuracy accuracy;
  accuracy.images = images.size();
  for (int64_t i = 0; i < accuracy.images; ++i) {
    const float* row = data + i * classes;
    const int64_t label = images.labels[static_cast<size_t>(i)];
    int64_t rank = 0;  // classes placed before the label
    for (int64_t c = 0; c < classes; ++c)
      rank += c < label ? !(row[c] < row[label]) : c > label && !(row[c] <= row[label]);
    accuracy.top1 += rank < 1;
    accuracy.top5 += rank < 5;
    accuracy.cross_entropy -= log_data[i * classes + label];
  }
  const auto n = static_cast<double>(accuracy.images);
  accuracy.top1 /= n;
  accuracy.top5 /= n;
  accuracy.cross_entropy /= n;
  return accuracy;
}

Accuracy evaluate(const Graph& graph, const ImageSet& images, const Overrides& overrides) {
  return accuracy_of(compute_logits(graph, images, overrides), images);
}

double divergence(const at::Tensor& reference_logits, const at::Tensor& logits) {
  const at::Tensor reference = at::log_softmax(reference_logits.to(at::kDouble), 1);
  const at::Tensor other = at::log_softmax(logits.to(at::kDouble), 1);
  return std::max(0.0, (reference.exp() * (reference - other)).sum(1).mean().item<double>());
}

}  // namespace strata::vision
