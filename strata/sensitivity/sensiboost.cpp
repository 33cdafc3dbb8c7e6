#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <unordered_map>

#include "strata/core/progress.h"
#include "strata/device/products.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"
#include "strata/sensitivity/sensiboost.h"

namespace strata {
namespace {

double squared_distance(const at::Tensor& a, const at::Tensor& b) {
  return total((a - b).square());
}

// The parts of a layer that are quantized alone are its stages: matrices that read the same input.
class LayerSensitivity {
 public:
  LayerSensitivity(ActivationStream& stream, int64_t window, const Scheme& scheme)
      : stream_(stream), exact_(run_of(stream, window)) {
    for (const Module* module : stream.decoder().model().layer_modules(stream.layer())) {
      const at::Tensor& exact = exact_.weights.weight(module->name);
      QuantizerOptions options;
      options.matrices = module->matrices();
      quantized_[module->name + ".weight"] =
          quantized_weight(exact.to(at::kCPU, at::kFloat), scheme, options).to(exact.options());
    }
  }

  // By stage: the mean squared error over all tokens and features of what its block gives.
  std::vector<double> measure(bool skip_output) {
    std::vector<double> sums(exact_.stages.size());
    int64_t values = 0;
    for (int64_t first = 0; first < stream_.blocks(); first += stream_.blocks_per_piece()) {
      at::Tensor stream =
          stream_.hidden(first, std::min(stream_.blocks_per_piece(), stream_.blocks() - first));
      values += hidden_states(exact_.config, stream).numel();
      for (size_t block = 0; block < exact_.plan.blocks.size(); ++block) {
        const at::Tensor exact = block_output(exact_, block, stream);
        for (size_t s = 0; s < sums.size(); ++s)
          if (exact_.stages[s].block == block && !(skip_output && mixes_values(s)))
            sums[s] += squared_distance(block_output(with(exact_.stages[s]), block, stream), exact);
        stream = stream + at::constant_pad_nd(exact, {0, stream.size(-1) - exact.size(-1)});
      }
    }
    for (double& sum : sums) sum /= static_cast<double>(values);
    if (skip_output)
      for (size_t s = 1; s < sums.size(); ++s)
        if (mixes_values(s)) sums[s] = sums[s - 1];
    return sums;
  }

  size_t stage_of(const std::string& matrix) const {
    size_t s = 0;
    while (exact_.stages[s].matrices.empty() || exact_.stages[s].matrices.front() != matrix) ++s;
    return s;
  }

 private:
  static LayerRun run_of(ActivationStream& stream, int64_t window) {
    stream.decoder().hold_layer(stream.layer());
    return stream.decoder().layer_run(stream.layer(), window);
  }

  // Whether the stage is o.
  bool mixes_values(size_t stage) const { return exact_.stages[stage].reads_attention; }

  LayerRun with(const Stage& stage) const {
    LayerRun run = exact_;
    for (const std::string& matrix : stage.matrices)
      run.weights.weight(matrix) = quantized_.at(matrix + ".weight");
    return run;
  }

  ActivationStream& stream_;
  LayerRun exact_;
  std::unordered_map<std::string, at::Tensor> quantized_;
};

}  // namespace

Options sensiboost_options(OptionValues& values) {
  return {flag("grouped-query-rule", values.get<SensiboostOptions>().grouped_query_rule,
               "with grouped queries o takes the score of q, k and v, as in the paper's code")};
}

// SensiBoost's activation sensitivity (arXiv 2503.06518): the mean squared error of a part's output when that
// part alone takes w4g64 by HQQ and its input is the unquantized model's. Parts are the matrices that read
// the same: q, k and v together and o, both at the attention's output, and gate and up together and down,
// both at the MLP's (behind its norm where there is one). Modules of a part share its score. Under the
// grouped-query rule of the paper's code, o is not measured in models with fewer key than query heads and
// takes the score of q, k and v.
Scores score_sensiboost(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const at::NoGradGuard no_grad;
  const Scheme scheme = parse_scheme("w4g64");
  const bool grouped_query_rule = options.methods.get<SensiboostOptions>().grouped_query_rule;
  const bool skip_output = grouped_query_rule && model.config.num_kv_heads < model.config.num_heads;
  ActivationStream stream = activations_of(model, options, evidence);
  std::vector<double> values(model.modules.size());
  Progress progress("measuring activation sensitivity", model.config.num_layers, "layers");
  while (!stream.at_end()) {
    LayerSensitivity layer(stream, evidence.calibration->window(), scheme);
    const std::vector<double> scores = layer.measure(skip_output);
    for (size_t m = 0; m < model.modules.size(); ++m)
      if (model.modules[m].layer == stream.layer())
        values[m] = scores[layer.stage_of(model.modules[m].input)];
    stream.advance();
    progress.advance();
  }
  Scores scores = per_module_scores(model, "sensiboost", values);
  scores.details["scheme"] = scheme.name();
  scores.details["quantizer"] = QuantizerOptions().name;
  scores.details["grouped_query_rule"] = grouped_query_rule;
  describe_calibration(scores, evidence);
  return scores;
}

}  // namespace strata
