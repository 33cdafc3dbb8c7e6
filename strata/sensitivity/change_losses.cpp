#include "strata/sensitivity/change_losses.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "strata/calibration/result_cache.h"
#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/forward/load_tensor.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/output_losses.h"

namespace strata {
namespace {

// Floats of the widest activations that a piece keeps on a GPU, all options together.
constexpr int64_t kCudaElements = int64_t{1} << 31;

bool is_unchanged(const LayerChoice& choice) {
  return std::all_of(choice.begin(), choice.end(), [](int option) { return option == 0; });
}

class ChangeMeasurement {
 public:
  ChangeMeasurement(const Model& model, const SensitivityOptions& options, const Evidence& evidence)
      : model_(model),
        options_(options),
        evidence_(evidence),
        high_impact_(options.methods.get<HighImpactOptions>()),
        schemes_(options.schemes),
        pairs_(high_impact_.interactions) {
    for (int layer = 0; layer < model.config.num_layers; ++layer) indices_.emplace_back(sizes(layer), pairs_);
    if (!options.cache.empty()) cache_ = ResultCache(options.cache, "change-losses", identity());
  }

  ChangeLosses run() {
    ChangeLosses losses{indices_, {}};
    if (!is_complete()) measure();
    for (int layer = 0; layer < model_.config.num_layers; ++layer)
      losses.layers.push_back(cache_.find(key(layer))->get<std::vector<double>>());
    return losses;
  }

 private:
  // Options by module, without their weights.
  LayerOptions sizes(int layer) const {
    return LayerOptions(model_.layer_modules(layer).size(), std::vector<at::Tensor>(schemes_.size()));
  }
  const ChangeIndex& index(int layer) const { return indices_[static_cast<size_t>(layer)]; }

  Json identity() const {
    Json names = Json::array();
    for (const Scheme& scheme : schemes_) names.push_back(scheme.name());
    double impacts = 0;  // tells apart which tokens the rows were ranked by
    if (evidence_.row_impacts)
      for (const auto& [tensor, rows] : *evidence_.row_impacts)
        for (const float value : rows) impacts += value;
    return {{"weights", weights_fingerprint(model_)},
            {"calibration", evidence_.calibration->fingerprint},
            {"impacts", impacts},
            {"quantizer", options_.quantizer.name},
            {"schemes", names},
            {"logits", high_impact_.loss == HighImpactOptions::Loss::Logits},
            {"pairs", pairs_}};
  }

  static std::string key(int layer) { return fmt::format("layer {}", layer); }

  bool is_stored(int layer) const {
    const Json* found = cache_.find(key(layer));
    return found != nullptr && found->is_array() && found->size() == index(layer).size() &&
           std::all_of(found->begin(), found->end(), [](const Json& value) { return value.is_number(); });
  }

  bool is_complete() const {
    for (int layer = 0; layer < model_.config.num_layers; ++layer)
      if (!is_stored(layer)) return false;
    return true;
  }

  void measure() {
    ActivationStream stream = activations_of(model_, options_, evidence_);
    const std::unique_ptr<OutputLoss> loss =
        high_impact_.loss == HighImpactOptions::Loss::Logits
            ? make_logits_loss(model_, options_.device, evidence_.calibration->window())
            : make_layer_loss(model_);
    Progress progress("measuring changes of layers", model_.config.num_layers * pieces(), "pieces");
    for (; !stream.at_end(); stream.advance()) {
      if (is_stored(stream.layer()))
        progress.advance(pieces());
      else
        cache_.store(key(stream.layer()), measure_layer(stream, *loss, progress));
    }
  }

  std::vector<double> measure_layer(ActivationStream& stream, OutputLoss& loss, Progress& progress) {
    const int layer = stream.layer();
    const LayerOptions options = quantized_options(layer);
    stream.decoder().hold_layer(layer);
    const LayerRun run = stream.decoder().layer_run(layer, evidence_.calibration->window());
    std::vector<std::string> modules;
    for (const Module* module : model_.layer_modules(layer)) modules.push_back(module->name);
    at::Tensor sums = at::zeros({pieces(), static_cast<int64_t>(index(layer).size())},
                                at::TensorOptions().dtype(at::kDouble).device(options_.device));
    const auto measure_piece = [&](int64_t piece) {
      const at::NoGradGuard no_grad;  // of this thread
      const int64_t first = piece * blocks_per_piece();
      const at::Tensor hidden = stream.hidden(first, std::min(blocks_per_piece(), stream.blocks() - first));
      at::Tensor unchanged;
      for_each_change(run, modules, options, pairs_, hidden,
                      [&](const LayerChoice& choice, const at::Tensor& output) {
                        const at::Tensor outcome = loss.outcome(layer, output);
                        if (is_unchanged(choice))
                          unchanged = outcome;
                        else
                          sums[piece][static_cast<int64_t>(index(layer).of(choice))].copy_(
                              loss.squared_distance(outcome, unchanged));
                      });
      progress.advance();
    };
    if (options_.device.is_cpu() && pieces() >= thread_count()) {
      // Whole sequences are what threads share best.
      const BlasThreads one_thread(1);
      parallel_for(pieces(), 1, [&](int64_t begin, int64_t) { measure_piece(begin); });
    } else {
      for (int64_t piece = 0; piece < pieces(); ++piece) measure_piece(piece);
    }
    const at::Tensor means = sums.sum(0).div_(static_cast<double>(stream.blocks())).cpu();
    const std::vector<double> losses(means.data_ptr<double>(), means.data_ptr<double>() + means.numel());
    if (!std::all_of(losses.begin(), losses.end(), [](double value) { return std::isfinite(value); }))
      fail("changes of layer {} have losses that are not finite; the model's activations overflow", layer);
    return losses;
  }

  LayerOptions quantized_options(int layer) const {
    LayerOptions options;
    for (const Module* module : model_.layer_modules(layer)) {
      const at::Tensor weight = load_tensor(*model_.checkpoint, module->tensor, at::kCPU, at::kFloat);
      QuantizerOptions quantizer = options_.quantizer;
      quantizer.matrices = module->matrices();
      if (evidence_.row_impacts)
        quantizer.row_impact = impacts_of(*evidence_.row_impacts, module->tensor, module->rows);
      std::vector<at::Tensor>& of_module = options.emplace_back();
      for (const Scheme& scheme : schemes_)
        of_module.push_back(quantized_weight(weight, scheme, quantizer).to(options_.device));
    }
    return options;
  }

  int64_t blocks_per_piece() const {
    if (options_.device.is_cpu()) return 1;
    const int64_t kept = model_.config.intermediate_size * static_cast<int64_t>(schemes_.size() + 4);
    const int64_t tokens = kCudaElements / kept;
    return std::clamp<int64_t>(tokens / evidence_.calibration->window(), 1, evidence_.calibration->blocks());
  }

  int64_t pieces() const {
    return (evidence_.calibration->blocks() + blocks_per_piece() - 1) / blocks_per_piece();
  }

  const Model& model_;
  const SensitivityOptions& options_;
  const Evidence& evidence_;
  const HighImpactOptions high_impact_;
  const std::vector<Scheme>& schemes_;
  const bool pairs_;
  std::vector<ChangeIndex> indices_;
  ResultCache cache_;
};

}  // namespace

ChangeLosses measure_change_losses(const Model& model, const SensitivityOptions& options,
                                   const Evidence& evidence) {
  const at::NoGradGuard no_grad;
  Evidence few = evidence;
  few.calibration =
      first_blocks(*evidence.calibration, options.methods.get<HighImpactOptions>().tokens, "high-impact");
  return ChangeMeasurement(model, options, few).run();
}

}  // namespace strata
