#include "strata/vision/adaround.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/device/products.h"
#include "strata/quantizers/adam.h"
#include "strata/quantizers/soft_rounding.h"
#include "strata/vision/windows.h"

namespace strata::vision {
namespace {

// A layer's weights as one matrix a group, [groups, outputs a group, K], and back.
at::Tensor to_groups(const Layer& layer, const at::Tensor& weight) {
  const at::Tensor outputs_first = layer.output_axis == 0 ? weight : weight.transpose(0, layer.output_axis);
  return outputs_first.reshape({layer.groups, outputs_first.size(0) / layer.groups, -1});
}

at::Tensor from_groups(const Layer& layer, const at::Tensor& groups, const at::Tensor& like) {
  if (layer.output_axis == 0) return groups.reshape(like.sizes()).contiguous();
  return groups.reshape(like.transpose(0, layer.output_axis).sizes())
      .transpose(0, layer.output_axis)
      .contiguous();
}

at::Tensor scales_of(const Layer& layer, const WeightCodes& weights) {
  return at::tensor(weights.scales, at::kFloat).reshape({layer.groups, -1, 1});
}

// a b for one matrix a group.
at::Tensor by_group(const at::Tensor& a, const at::Tensor& b) {
  if (a.size(0) == 1) return strata::product(a[0], b[0]).unsqueeze(0);
  const OneThread one;
  return at::bmm(a, b);
}

// What one image's weights of an output meet, as columns: [groups, K, patches].
at::Tensor patches_of(const Graph& graph, const Layer& layer, const at::Tensor& input) {
  if (layer.weight.dim() == 2) {
    const at::Tensor rows = layer.channel_axis == -1 ? input : input.transpose(-1, -2);
    return rows.reshape({-1, rows.size(-1)}).t().unsqueeze(0);
  }
  const OnnxModel& model = graph.model();
  const Window window =
      read_window(NodeArguments(model, model.nodes[layer.node]), layer.weight.sizes().slice(2).vec());
  const at::Tensor maps = pad_maps(input, window.pads_for(input), 0);
  const at::Tensor columns = at::im2col(maps, window.kernel, window.dilations, at::IntArrayRef({0, 0}),
                                        window.strides);  // [N, C height width, places]
  return columns.transpose(0, 1).reshape({layer.groups, columns.size(1) / layer.groups, -1});
}

}  // namespace

bool has_patches(const Layer& layer) {
  return !layer.transposed && (layer.weight.dim() == 2 || layer.weight.dim() == 4);
}

void PatchMoments::add(const Graph& graph, const Layer& layer, const at::Tensor& input, int64_t most) {
  at::Tensor patches = patches_of(graph, layer, input.to(at::kCPU));
  const int64_t step = std::max<int64_t>(1, patches.size(2) / std::max<int64_t>(1, most)) | 1;
  patches = patches.slice(2, 0, patches.size(2), step).contiguous();
  // Threads that share a product have no inference mode of their own.
  const c10::InferenceMode off(false);
  const at::NoGradGuard no_grad;
  const at::Tensor products = by_group(patches, patches.transpose(1, 2).contiguous());
  sums = sums.defined() ? sums + products : products;
  count += static_cast<double>(patches.size(2));
}

double output_error(const Layer& layer, const WeightCodes& weights, const PatchMoments& moments) {
  const at::Tensor lost =
      to_groups(layer, layer.weight.to(at::kCPU) - weights.dequantize(layer.output_axis)).contiguous();
  return total(by_group(lost, moments.sums) * lost) / moments.count;
}

WeightCodes adaround(const Layer& layer, const WeightCodes& nearest, const PatchMoments& moments,
                     const AdaRoundOptions& options) {
  const at::AutoGradMode with_gradients(true);
  const double at_start = output_error(layer, nearest, moments);
  if (!(at_start > 0)) return nearest;
  const auto highest = static_cast<double>((1 << (nearest.bits - 1)) - 1), lowest = -highest - 1;
  const at::Tensor weight = to_groups(layer, layer.weight.to(at::kCPU)).contiguous();
  const at::Tensor scales = scales_of(layer, nearest);
  const at::Tensor exact = weight / scales, below = exact.floor();
  const at::Tensor low = below.clamp(lowest, highest), step = (below + 1).clamp(lowest, highest) - low;
  SoftRounding rounding(exact - below);
  Adam adam({rounding.parameter()}, {options.learning_rate});
  const at::Tensor metric = moments.sums * (2 / (moments.count * at_start));
  for (int s = 0; s < options.steps; ++s) {
    const at::Tensor rounded = (low + step * rounding.up()) * scales;
    const at::Tensor gradient = by_group(rounded.detach() - weight, metric);
    rounded.backward(gradient, /*retain_graph=*/true);
    const at::Tensor regularizer = rounding.regularizer(static_cast<double>(s) / options.steps);
    if (regularizer.defined())
      (regularizer * (options.regularization / static_cast<double>(weight.numel()))).backward();
    adam.step();
  }
  const at::NoGradGuard no_grad;
  const at::Tensor codes = low + step * rounding.is_up().to(at::kFloat);
  WeightCodes learned = nearest;
  learned.codes = from_groups(layer, codes, nearest.codes).to(at::kChar);
  learned.squared_error = total((codes * scales - weight).square());
  return learned;
}

}  // namespace strata::vision
