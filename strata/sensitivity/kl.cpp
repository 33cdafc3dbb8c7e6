#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "strata/calibration/reference_distribution.h"
#include "strata/core/error.h"
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

class DivergenceMeasurement {
 public:
  DivergenceMeasurement(const Model& model, const SensitivityOptions& options, const Calibration& calibration,
                        CostSheet& sheet)
      : model_(model), sheet_(sheet), decoder_(model, decoder_options(options)) {
    hidden_ = decoder_.embed(calibration.ids);
    at::Tensor last = hidden_;
    for (int layer = 0; layer < model.config.num_layers; ++layer) last = decoder_.layer(layer, last);
    reference_ = std::make_unique<ReferenceDistribution>(
        decoder_, last, options.device.is_cuda() ? kCudaReference : kCpuReference);
  }

  void run() {
    for_each_module(decoder_, hidden_, "measuring KL divergences",
                    [&](const Module& module) { measure(module); });
  }

 private:
  static DecoderOptions decoder_options(const SensitivityOptions& options) {
    DecoderOptions decoder;
    decoder.device = options.device;
    decoder.dtype = options.methods.get<KlOptions>().dtype;
    return decoder;
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
        states = decoder_.layer(layer, states);
      for (size_t i = 0; i < waiting.size(); ++i) {
        const int64_t blocks = hidden_.size(0);
        const double divergence =
            reference_->divergence(states.narrow(0, static_cast<int64_t>(i) * blocks, blocks));
        sheet_.set(module, waiting[i], std::max(0.0, divergence));
      }
      waiting.clear();
    };
    sheet_.for_each_missing(module, [&](size_t scheme, const at::Tensor&, const at::Tensor& quantized) {
      decoder_.replace(module.tensor, quantized);
      outputs.push_back(decoder_.layer(module.layer, hidden_));
      decoder_.restore(module.tensor);
      waiting.push_back(scheme);
      if (static_cast<int64_t>(waiting.size()) == schemes_at_a_time()) finish();
    });
    finish();
  }

  const Model& model_;
  CostSheet& sheet_;
  Decoder decoder_;
  at::Tensor hidden_;  // before the layer at hand, [B, T, d]
  std::unique_ptr<ReferenceDistribution> reference_;
};

}  // namespace

Options kl_options(OptionValues& values) {
  KlOptions& kl = values.get<KlOptions>();
  return {number("kl-tokens", kl.tokens, 1, int64_t{1} << 40, "calibration tokens that the method kl uses"),
          choice("kl-precision", kl.dtype, {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}},
                 "what kl computes in; bfloat16 is faster on a GPU")};
}

// The mean over calibration positions of KL(p || q), where p is the model's next-token distribution and q
// that of the model with one matrix in one scheme: measured for every matrix and scheme. The model's weights
// are in memory.
Scores score_kl(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const at::NoGradGuard no_grad;
  Evidence few = evidence;
  few.calibration = first_blocks(*evidence.calibration, options.methods.get<KlOptions>().tokens, "kl");
  CostSheet sheet(model, "kl", options, few, changed_values(kl_options, options.methods));
  if (!sheet.is_complete()) DivergenceMeasurement(model, options, *few.calibration, sheet).run();
  Scores scores = sheet.scores();
  describe_calibration(scores, few);
  return scores;
}

}  // namespace strata
