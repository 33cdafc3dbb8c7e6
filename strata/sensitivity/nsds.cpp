#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/interrupt.h"
#include "strata/core/progress.h"
#include "strata/forward/load_tensor.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"
#include "strata/sensitivity/nsds_aggregation.h"
#include "strata/sensitivity/nsds_components.h"
#include "strata/sensitivity/spectrum.h"

namespace strata {
namespace {

at::Tensor load_rows(const Model& model, const TensorInfo& info, int64_t first, int64_t count,
                     at::Device device) {
  at::Tensor rows = at::empty({count, info.cols()}, at::kFloat);
  model.checkpoint->read_rows(info, first, count, rows.data_ptr<float>());
  return rows.to(device);
}

// P' of the output head, read a few rows at a time: it is often the largest tensor of a model.
at::Tensor read_unembedding_basis(const Model& model, const SensitivityOptions& options) {
  constexpr int64_t kWeightsAtOnce = int64_t{1} << 25;
  const TensorInfo& info = model.checkpoint->info(model.head);
  const int64_t step = std::max<int64_t>(1, kWeightsAtOnce / info.cols());
  at::Tensor gram =
      at::zeros({info.cols(), info.cols()}, at::TensorOptions().dtype(at::kFloat).device(options.device));
  Progress progress("reading the unembedding", info.rows(), "rows");
  for (int64_t first = 0; first < info.rows(); first += step) {
    const int64_t count = std::min(step, info.rows() - first);
    add_gram(gram, load_rows(model, info, first, count, options.device));
    progress.advance(count);
  }
  return unembedding_basis(std::move(gram), options.methods.get<NsdsOptions>());
}

NsdsLayer score_layer(const Model& model, int layer, const at::Tensor& basis,
                      const SensitivityOptions& options) {
  const NsdsOptions& nsds = options.methods.get<NsdsOptions>();
  const ModelConfig& config = model.config;
  // A matrix may hold rows of several roles; keys and values may be those of an earlier layer.
  const auto rows_of = [&](Role role) {
    const bool shared = role == Role::K || role == Role::V;
    return model.rows_of(shared ? config.key_layer(layer) : layer, role);
  };
  const auto has = [&](Role role) { return rows_of(role).has_value(); };
  const auto read = [&](Role role) {
    const Model::Rows rows = *rows_of(role);
    return load_rows(model, model.checkpoint->info(rows.module->tensor), rows.first, rows.count,
                     options.device);
  };
  NsdsLayer values;
  const auto set = [&](NsdsComponent component, ComponentValues value) {
    values[static_cast<int>(component)] = value;
    check_interrupted();
  };
  if (has(Role::Q) && has(Role::K))
    set(NsdsComponent::QueryKey,
        nsds_detector_circuit(
            query_key_circuit(read(Role::Q), read(Role::K), config.num_heads, config.kv_heads_of(layer)),
            nsds));
  const Role values_role = has(Role::V) ? Role::V : Role::K;  // keys may be the values too
  if (has(Role::O) && has(values_role))
    set(NsdsComponent::OutputValue,
        nsds_writer_circuit(output_value_circuit(read(Role::O), read(values_role), config.num_heads,
                                                 config.kv_heads_of(layer)),
                            basis, nsds));
  if (has(Role::Gate)) set(NsdsComponent::Gate, nsds_detector_matrix(read(Role::Gate), nsds));
  if (has(Role::Up)) set(NsdsComponent::Up, nsds_detector_matrix(read(Role::Up), nsds));
  if (has(Role::Down)) set(NsdsComponent::Down, nsds_writer_matrix(read(Role::Down), basis, nsds));
  return values;
}

Json details_of(const std::vector<NsdsLayer>& layers, const std::vector<NsdsLayerScore>& scores,
                const NsdsOptions& options) {
  Json lines = Json::array();
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    const NsdsLayerScore& score = scores[layer];
    Json components;
    for (int c = 0; c < kNsdsComponents; ++c)
      if (layers[layer][c])
        components[std::string(name_of(static_cast<NsdsComponent>(c)))] = {
            {"nv", layers[layer][c]->numerical_vulnerability},
            {"se", layers[layer][c]->structural_expressiveness},
            {"p_nv", *score.numerical[c]},
            {"p_se", *score.structural[c]}};
    lines.push_back({{"layer", layer},
                     {"p_nv", score.p_numerical},
                     {"p_se", score.p_structural},
                     {"soft_or", score.soft_or},
                     {"log_form", score.log_form},
                     {"components", std::move(components)}});
  }
  return {{"tau", options.tau},
          {"multiply_entropy", options.multiply_entropy},
          {"consistent_mad", options.consistent_mad},
          {"layers", std::move(lines)}};
}

}  // namespace

Options nsds_options(OptionValues& values) {
  NsdsOptions& nsds = values.get<NsdsOptions>();
  return {number("tau", nsds.tau, 0.01, 1.0, "share of the squared singular values that is kept"),
          choice("entropy", nsds.multiply_entropy, {{"multiply", true}, {"divide", false}},
                 "structural expressiveness: the sum times exp(entropy) or divided by it"),
          choice("mad", nsds.consistent_mad, {{"consistent", true}, {"plain", false}},
                 "deviation scaled by 1.4826 (consistent) or not (plain)")};
}

// The score is the log form of the soft-OR, -sum ln(1 - P): where the soft-OR itself has reached 1 in
// floating point, the order of the layers is still in it.
Scores score_nsds(const Model& model, const SensitivityOptions& options, const Evidence&) {
  const NsdsOptions& nsds = options.methods.get<NsdsOptions>();
  if (!(nsds.tau > 0 && nsds.tau <= 1))
    fail_usage("tau is {}, expected a share of the squared singular values in (0, 1]", nsds.tau);
  require_runnable(model, "scoring with NSDS, which looks at matrices by their roles,");
  if (model.config.experts.count > 0)
    fail("{}: NSDS has no rule for experts; choose another method, such as kl or prior", model.path.string());
  const at::NoGradGuard no_gradients;
  // Below this size BLAS's threads wait for each other longer than they work.
  constexpr int64_t kWorthThreads = 1024;
  std::optional<BlasThreads> one_thread;
  if (model.config.hidden_size <= kWorthThreads) one_thread.emplace(1);
  const at::Tensor basis = read_unembedding_basis(model, options);
  Progress progress("scoring with NSDS", model.config.num_layers, "layers");
  std::vector<NsdsLayer> layers;
  for (int layer = 0; layer < model.config.num_layers; ++layer) {
    layers.push_back(score_layer(model, layer, basis, options));
    progress.advance();
  }
  const std::vector<NsdsLayerScore> scores = aggregate_nsds(layers, nsds.consistent_mad);
  std::vector<double> values;
  for (const NsdsLayerScore& score : scores) values.push_back(score.log_form);
  Scores result = layer_scores(model, "nsds", values);
  result.details = details_of(layers, scores, nsds);
  return result;
}

}  // namespace strata
