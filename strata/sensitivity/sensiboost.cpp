#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>

#include "strata/core/progress.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

// The parts of a layer that are quantized alone.
enum Part { QueryKeyValue, Output, GateUp, Down, kParts };

Part part_of(Role role) {
  switch (input_role(role)) {
    case Role::Q:
      return QueryKeyValue;
    case Role::O:
      return Output;
    case Role::Gate:
      return GateUp;
    default:
      return Down;
  }
}

double squared_distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).square().sum(at::kDouble).item<double>();
}

class LayerSensitivity {
 public:
  LayerSensitivity(const Model& model, ActivationStream& stream, const Scheme& scheme)
      : model_(model), stream_(stream), layer_(stream.layer()) {
    stream.decoder().hold_layer(layer_);
    exact_ = stream.decoder().layer_weights(layer_);
    for (const Role role : {Role::Q, Role::K, Role::V, Role::O, Role::Gate, Role::Up, Role::Down}) {
      const at::Tensor& weight = weight_of(exact_, role);
      weight_of(quantized_, role) =
          quantized_weight(weight.to(at::kCPU, at::kFloat), scheme, QuantizerOptions()).to(weight.options());
    }
  }

  // The mean squared error of every part's output over all tokens and features.
  std::array<double, kParts> measure(const RopeTable& rope, bool skip_output) {
    const Attention attention = causal_attention_over(model_.config.window_of(layer_));
    std::array<double, kParts> sums = {};
    for (int64_t first = 0; first < stream_.blocks(); first += stream_.blocks_per_piece()) {
      const at::Tensor hidden =
          stream_.hidden(first, std::min(stream_.blocks_per_piece(), stream_.blocks() - first));
      const auto attend = [&](const LayerWeights& weights) {
        return attention_output(model_.config, weights, rope, attention, hidden, nullptr);
      };
      const at::Tensor mixed = attend(exact_);
      sums[QueryKeyValue] += squared_distance(attend(with({Role::Q, Role::K, Role::V})), mixed);
      if (!skip_output) sums[Output] += squared_distance(attend(with({Role::O})), mixed);
      const at::Tensor attended = hidden + mixed;
      const auto transform = [&](const LayerWeights& weights) {
        return mlp_output(model_.config, weights, attended, nullptr);
      };
      const at::Tensor transformed = transform(exact_);
      sums[GateUp] += squared_distance(transform(with({Role::Gate, Role::Up})), transformed);
      sums[Down] += squared_distance(transform(with({Role::Down})), transformed);
      values_ += hidden.numel();
    }
    for (double& sum : sums) sum /= static_cast<double>(values_);
    return sums;
  }

 private:
  LayerWeights with(std::initializer_list<Role> roles) {
    LayerWeights weights = exact_;
    for (const Role role : roles) weight_of(weights, role) = weight_of(quantized_, role);
    return weights;
  }

  const Model& model_;
  ActivationStream& stream_;
  int layer_;
  int64_t values_ = 0;
  LayerWeights exact_, quantized_;
};

}  // namespace

// SensiBoost's activation sensitivity (arXiv 2503.06518): the mean squared error of a part's output when that
// part alone takes w4g64 by HQQ and its input is the unquantized model's. Parts are q, k and v together and
// o, both at the attention's output, and gate and up together and down, both at the MLP's. Modules of a part
// share its score. Under the grouped-query rule of the paper's code, o is not measured in models with fewer
// key than query heads and takes the score of q, k and v.
Scores score_sensiboost(const Model& model, const SensitivityOptions& options) {
  const at::NoGradGuard no_grad;
  const Scheme scheme = parse_scheme("w4g64");
  const bool skip_output = options.grouped_query_rule && model.config.num_kv_heads < model.config.num_heads;
  ActivationStream stream = activations_of(model, options);
  std::vector<double> values(model.modules.size());
  Progress progress("measuring activation sensitivity", model.config.num_layers, "layers");
  while (!stream.at_end()) {
    LayerSensitivity layer(model, stream, scheme);
    std::array<double, kParts> scores =
        layer.measure(stream.decoder().rope_table(options.calibration->window()), skip_output);
    if (skip_output) scores[Output] = scores[QueryKeyValue];
    for (size_t m = 0; m < model.modules.size(); ++m)
      if (model.modules[m].layer == stream.layer()) values[m] = scores[part_of(model.modules[m].role)];
    stream.advance();
    progress.advance();
  }
  Scores scores = per_module_scores(model, "sensiboost", values);
  scores.details["scheme"] = scheme.name();
  scores.details["quantizer"] = QuantizerOptions().name;
  scores.details["grouped_query_rule"] = options.grouped_query_rule;
  describe_calibration(scores, options);
  return scores;
}

}  // namespace strata
