#include "strata/vision/quantized_layers.h"

namespace strata::vision {
namespace {

// A convolution of maps whose outputs see all channels.
bool suits_whole_numbers(const Graph& graph, const Layer& layer) {
  return graph.device().is_cpu() && multiplies_bytes() && !layer.transposed && layer.groups == 1 &&
         layer.weight.dim() == 4 && layer.weight.numel() > 0;
}

}  // namespace

Options declare(LayerQuantizationOptions& options) {
  return {choice("weight-range", options.weights,
                 {{"mse", RangeRule::SquaredError}, {"minmax", RangeRule::MinMax}},
                 "scales of weights: least squared error or largest value"),
          choice("activation-range", options.activations,
                 {{"mse", RangeRule::SquaredError},
                  {"minmax", RangeRule::MinMax},
                  {"percentile", RangeRule::Percentile}},
                 "ranges of activations"),
          number("percentile", options.percentile, 50.0, 100.0,
                 "what --activation-range percentile keeps, in per cent"),
          flag("no-bias-correction", options.bias_correction, "leave biases as they are", false)};
}

QuantizedLayers::QuantizedLayers(const Graph& graph, const ImageSet& calibration,
                                 const LayerQuantizationOptions& options)
    : graph_(&graph), options_(options), statistics_(observe_inputs(graph, calibration)) {}

const WeightCodes& QuantizedLayers::weight(size_t layer, int bits) {
  return quantized(layer, bits).codes;
}

ActivationCode QuantizedLayers::activation(size_t layer, int bits) const {
  return choose_code(statistics_[layer], bits, options_.activations, options_.percentile);
}

at::Tensor QuantizedLayers::bias(size_t layer, int bits) {
  const at::Tensor& bias = quantized(layer, bits).bias;
  return bias.defined() ? bias.to(at::kCPU) : bias;
}

QuantizedLayers::Quantized& QuantizedLayers::quantized(size_t layer, int bits) {
  const auto [found, is_new] = weights_.try_emplace({layer, bits});
  Quantized& result = found->second;
  if (!is_new) return result;
  const Layer& original = graph_->layers()[layer];
  result.codes = quantize_weight(original, bits, options_.weights);
  result.weight = result.codes.dequantize(original.output_axis).to(graph_->device());
  result.bias = options_.bias_correction && original.takes_bias
                    ? corrected_bias(layer, result.codes).to(graph_->device())
                    : original.bias;
  if (suits_whole_numbers(*graph_, original))
    result.packed = std::make_shared<const PackedWeights>(pack_weights(result.codes));
  return result;
}

at::Tensor QuantizedLayers::corrected_bias(size_t layer, const WeightCodes& codes) const {
  const Layer& original = graph_->layers()[layer];
  at::Tensor lost = original.weight.to(at::kCPU) - codes.dequantize(original.output_axis);
  if (lost.dim() > 2) lost = lost.flatten(2).sum(2) / static_cast<double>(original.step);  // without borders
  const at::Tensor means = statistics_[layer].channel_means.reshape({original.groups, 1, -1});
  // Outputs of a group see that group's channels: [groups, outputs, inputs].
  if (original.transposed)
    lost = lost.reshape({original.groups, means.size(2), -1}).transpose(1, 2);
  else
    lost = (original.output_axis == 0 ? lost : lost.t()).reshape({original.groups, -1, means.size(2)});
  const at::Tensor shift = (lost * means).sum(2).reshape({-1});
  return original.bias.defined() ? original.bias.to(at::kCPU) + shift : shift;
}

const LayerOverride& QuantizedLayers::layer(size_t layer, Widths widths) {
  const auto [found, is_new] = layers_.try_emplace({layer, widths.weight * 16 + widths.activation});
  if (!is_new) return found->second;
  const Quantized& weights = quantized(layer, widths.weight);
  found->second.weight = weights.weight;
  found->second.bias = weights.bias;
  const ActivationCode code = activation(layer, widths.activation);
  found->second.input = [code](const at::Tensor& values) { return code.simulate(values); };
  if (weights.packed != nullptr) {
    const OnnxModel& model = graph_->model();
    const Layer& original = graph_->layers()[layer];
    const Window window =
        read_window(NodeArguments(model, model.nodes[original.node]), original.weight.sizes().slice(2).vec());
    const at::Tensor bias = weights.bias.defined() ? weights.bias.contiguous() : weights.bias;
    found->second.whole = [=, packed = weights.packed](const at::Tensor& maps) {
      return integer_convolution(maps, code, *packed, bias, window);
    };
  }
  return found->second;
}

Overrides QuantizedLayers::overrides(const std::vector<Widths>& plan) {
  Overrides result;
  for (size_t l = 0; l < plan.size(); ++l) result.push_back(layer(l, plan[l]));
  return result;
}

}  // namespace strata::vision
