#include "strata/vision/quantized_layers.h"

#include "strata/core/interrupt.h"
#include "strata/core/progress.h"
#include "strata/device/products.h"
#include "strata/vision/batches.h"

namespace strata::vision {
namespace {

constexpr int64_t kPatches = 1 << 15;  // that a layer learns from, about

int key_of(Widths widths) {
  return widths.weight * 16 + widths.activation;
}

// A convolution of maps whose outputs see all channels.
bool suits_whole_numbers(const Graph& graph, const Layer& layer) {
  return graph.device().is_cpu() && multiplies_bytes() && !layer.transposed && layer.groups == 1 &&
         layer.weight.dim() == 4 && layer.weight.numel() > 0;
}

}  // namespace

Options declare(LayerQuantizationOptions& options) {
  return {
      choice("weight-range", options.weights,
             {{"mse", RangeRule::SquaredError}, {"minmax", RangeRule::MinMax}},
             "scales of weights: least squared error or largest value"),
      choice("activation-range", options.activations,
             {{"mse", RangeRule::SquaredError},
              {"minmax", RangeRule::MinMax},
              {"percentile", RangeRule::Percentile},
              {"kl", RangeRule::Divergence}},
             "ranges of activations: of least squared error, of all values, of most of them, or of the least "
             "KL divergence between the histograms of values and codes"),
      number("percentile", options.percentile, 50.0, 100.0,
             "what --activation-range percentile keeps, in per cent"),
      flag("no-bias-correction", options.bias_correction, "leave biases as they are", false),
      choice("weight-rounding", options.rounding,
             {{"nearest", WeightRounding::Nearest}, {"adaround", WeightRounding::AdaRound}},
             "how the weights of the plan are rounded: to nearest, or as AdaRound learns it layer by layer"),
      number("adaround-steps", options.adaround.steps, 1, 1 << 24,
             "adaround: steps of gradient descent a layer")};
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
  set_codes(result, layer, quantize_weight(graph_->layers()[layer], bits, options_.weights));
  return result;
}

void QuantizedLayers::set_codes(Quantized& quantized, size_t layer, WeightCodes codes) const {
  const Layer& original = graph_->layers()[layer];
  quantized.codes = std::move(codes);
  quantized.weight = quantized.codes.dequantize(original.output_axis).to(graph_->device());
  quantized.bias = options_.bias_correction && original.takes_bias
                       ? corrected_bias(layer, quantized.codes).to(graph_->device())
                       : original.bias;
  if (suits_whole_numbers(*graph_, original))
    quantized.packed = std::make_shared<const PackedWeights>(pack_weights(quantized.codes));
}

void QuantizedLayers::learn_rounding(const std::vector<Widths>& plan, const ImageSet& images) {
  if (options_.rounding == WeightRounding::Nearest) return;
  const OneThread one;
  struct Evidence {
    PatchMoments learning, held_back;
  };
  std::map<size_t, Evidence> evidence;  // by layer
  for (size_t l = 0; l < plan.size(); ++l)
    if (has_patches(graph_->layers()[l]) && learned_.insert({l, plan[l].weight}).second) evidence[l];
  const int64_t batches = batch_count(images.size(), *graph_);
  for_each_batch_in_order(images.size(), *graph_, [&](int64_t index, int64_t first, int64_t count) {
    Overrides overrides(plan.size());
    for (auto& [l, of_layer] : evidence) {
      PatchMoments& moments = index % 4 == 3 ? of_layer.held_back : of_layer.learning;
      overrides[l].input = [&, l = l](const at::Tensor& input) {
        moments.add(*graph_, graph_->layers()[l], activation(l, plan[l].activation).simulate(input.clone()),
                    kPatches / batches);
        return input;
      };
    }
    Execution(*graph_, images.batch(first, count, graph_->device())).finish(overrides);
  });
  Progress progress("Learning to round", static_cast<int64_t>(evidence.size()), "layers");
  for (auto& [l, of_layer] : evidence) {
    check_interrupted();
    const Layer& original = graph_->layers()[l];
    Quantized& nearest = quantized(l, plan[l].weight);
    WeightCodes learned = adaround(original, nearest.codes, of_layer.learning, options_.adaround);
    const PatchMoments& judge = of_layer.held_back.sums.defined() ? of_layer.held_back : of_layer.learning;
    if (output_error(original, learned, judge) < output_error(original, nearest.codes, judge)) {
      set_codes(nearest, l, std::move(learned));
      for (int bits = kLowestWidth; bits <= kHighestWidth; ++bits)
        layers_.erase({l, key_of({plan[l].weight, bits})});
    }
    of_layer = {};
    progress.advance();
  }
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
  const auto [found, is_new] = layers_.try_emplace({layer, key_of(widths)});
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
