#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "strata/calibration/reference_distribution.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/kl.h"
#include "strata/sensitivity/methods.h"

namespace strata {
namespace {

// Hidden states of several schemes that run through the layers behind a module together.
constexpr int64_t kCpuStates = int64_t{1} << 24, kCudaStates = int64_t{1} << 26;
// What the kept probabilities may take.
constexpr int64_t kCpuReference = int64_t{1} << 30, kCudaReference = int64_t{8} << 30;

}  // namespace

class KlMeasurement::State {
 public:
  State(const Model& model, const SensitivityOptions& options, const Evidence& evidence)
      : model_(model),
        options_(options),
        evidence_(evidence),
        sheet_(model, "kl", options, evidence, measured_with(options)) {}

  CostSheet& sheet() { return sheet_; }

  void measure() {
    if (sheet_.is_complete()) return;
    const at::NoGradGuard no_grad;
    if (!decoder_) load();
    hidden_ = embedded_;
    for_each_module(*decoder_, hidden_, "measuring KL divergences",
                    [&](const Module& module) { measure(module); });
    hidden_ = at::Tensor();
    for (const Module& boundary : options_.boundaries) measure_boundary(boundary);
  }

  void unload() {
    reference_.reset();
    decoder_.reset();
    embedded_ = last_ = at::Tensor();
  }

 private:
  // What costs depend on; not which of them are measured.
  static Json measured_with(const SensitivityOptions& options) {
    Json values = changed_values(kl_options, options.methods);
    values.erase("kl-table");
    values.erase("kl-weights");  // the quantizer's name tells
    return values;
  }

  void load() {
    DecoderOptions decoder;
    decoder.device = options_.device;
    decoder.dtype = options_.methods.get<KlOptions>().dtype;
    decoder_.emplace(model_, decoder);
    embedded_ = decoder_->embed(evidence_.calibration->ids);
    last_ = through_layers(embedded_);
    reference_ = std::make_unique<ReferenceDistribution>(
        *decoder_, last_, options_.device.is_cuda() ? kCudaReference : kCpuReference);
  }

  at::Tensor through_layers(at::Tensor hidden) {
    for (int layer = 0; layer < model_.config.num_layers; ++layer) hidden = decoder_->layer(layer, hidden);
    return hidden;
  }

  // An embedding changes what enters the layers, a head what is made of what leaves them.
  void measure_boundary(const Module& boundary) {
    sheet_.for_each_missing(boundary, [&](size_t scheme, const at::Tensor&, const at::Tensor& quantized) {
      at::Tensor states = last_;
      if (boundary.tensor == model_.embedding) {
        decoder_->replace(boundary.tensor, quantized);
        states = through_layers(decoder_->embed(evidence_.calibration->ids));
        decoder_->restore(boundary.tensor);
      }
      const at::Tensor head = boundary.tensor == model_.head ? quantized : at::Tensor();
      sheet_.set(boundary, scheme, std::max(0.0, reference_->divergence(states, head)));
    });
  }

  int64_t schemes_at_a_time() const {
    const int64_t states = hidden_.is_cuda() ? kCudaStates : kCpuStates;
    return std::max<int64_t>(1, states / hidden_.numel());
  }

  // Only the module's layer, once a scheme, and the layers behind it, all schemes together, run again.
  void measure(const Module& module) {
    std::vector<size_t> waiting;
    std::vector<at::Tensor> outputs;
    const auto finish = [&] {
      if (waiting.empty()) return;
      at::Tensor states = at::cat(outputs);
      outputs.clear();
      for (int layer = module.layer + 1; layer < model_.config.num_layers; ++layer)
        states = decoder_->layer(layer, states);
      for (size_t i = 0; i < waiting.size(); ++i) {
        const int64_t blocks = hidden_.size(0);
        const double divergence =
            reference_->divergence(states.narrow(0, static_cast<int64_t>(i) * blocks, blocks));
        sheet_.set(module, waiting[i], std::max(0.0, divergence));
      }
      waiting.clear();
    };
    sheet_.for_each_missing(module, [&](size_t scheme, const at::Tensor&, const at::Tensor& quantized) {
      decoder_->replace(module.tensor, quantized);
      outputs.push_back(decoder_->layer(module.layer, hidden_));
      decoder_->restore(module.tensor);
      waiting.push_back(scheme);
      if (static_cast<int64_t>(waiting.size()) == schemes_at_a_time()) finish();
    });
    finish();
  }

  const Model& model_;
  const SensitivityOptions& options_;
  const Evidence evidence_;
  CostSheet sheet_;
  std::optional<Decoder> decoder_;
  // Before the first layer, before the layer at hand, and behind the last, [B, T, d].
  at::Tensor embedded_, hidden_, last_;
  std::unique_ptr<ReferenceDistribution> reference_;
};

KlMeasurement::KlMeasurement(const Model& model, const SensitivityOptions& options, const Evidence& evidence)
    : state_(std::make_unique<State>(model, options, evidence)) {}

KlMeasurement::~KlMeasurement() = default;

void KlMeasurement::measure(const Pairs& pairs) {
  state_->sheet().want([&](const Module& module, size_t scheme) {
    const auto found = pairs.find(module.tensor);
    return found != pairs.end() && found->second.count(scheme) > 0;
  });
  state_->measure();
}

void KlMeasurement::measure_all() {
  state_->sheet().want(nullptr);
  state_->measure();
}

void KlMeasurement::unload() {
  state_->unload();
}

const std::vector<Module>& KlMeasurement::modules() const {
  return state_->sheet().modules();
}

double KlMeasurement::cost(const Module& module, size_t scheme) const {
  return state_->sheet().cost(module, scheme);
}

Scores KlMeasurement::scores() const {
  return state_->sheet().scores();
}

Evidence evidence_of_kl(const SensitivityOptions& options, const Evidence& evidence) {
  Evidence few = evidence;
  few.calibration = first_blocks(*evidence.calibration, options.methods.get<KlOptions>().tokens, "kl");
  return few;
}

Options kl_options(OptionValues& values) {
  KlOptions& kl = values.get<KlOptions>();
  return {number("kl-tokens", kl.tokens, 1, int64_t{1} << 40, "calibration tokens that the method kl uses"),
          choice("kl-precision", kl.dtype, {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}},
                 "what kl computes in; bfloat16 is faster on a GPU"),
          choice("kl-table", kl.table,
                 {{"reachable", KlOptions::Table::Reachable}, {"full", KlOptions::Table::Full}},
                 "what kl measures where a budget is known: reachable, what its plan may come to, the rest "
                 "being predicted by gradients; full, every matrix in every scheme"),
          choice("kl-weights", kl.weights,
                 {{"quantizer", KlOptions::Weights::Quantizer}, {"nearest", KlOptions::Weights::Nearest}},
                 "whose weights in the schemes kl measures: quantizer, those that the plan's quantizer would "
                 "leave; nearest, those rounded to nearest")};
}

// Measured for every matrix and scheme.
Scores score_kl(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const Evidence few = evidence_of_kl(options, evidence);
  KlMeasurement measurement(model, options, few);
  measurement.measure_all();
  Scores scores = measurement.scores();
  describe_calibration(scores, few);
  return scores;
}

}  // namespace strata
