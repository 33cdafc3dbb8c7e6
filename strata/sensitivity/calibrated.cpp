#include "strata/sensitivity/calibrated.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/progress.h"

namespace strata {

ActivationStream activations_of(const Model& model, const SensitivityOptions& options,
                                const Evidence& evidence) {
  ActivationOptions activations;
  activations.device = options.device;
  return ActivationStream(model, *evidence.calibration, activations);
}

std::shared_ptr<const Calibration> first_blocks(const Calibration& calibration, int64_t tokens,
                                                const std::string& method) {
  if (tokens < 1) fail_usage("{} tokens were asked for {}, expected at least one", tokens, method);
  const int64_t blocks = std::min((tokens - 1) / calibration.window() + 1, calibration.blocks());
  return std::make_shared<const Calibration>(
      make_calibration(calibration.ids.narrow(0, 0, blocks), calibration.source));
}

void for_each_module(Decoder& decoder, at::Tensor& hidden, const std::string& what,
                     const std::function<void(const Module&)>& measure) {
  const Model& model = decoder.model();
  Progress progress(what, static_cast<int64_t>(model.modules.size()), "matrices");
  for (int layer = 0; layer < model.config.num_layers; ++layer) {
    for (const Module& module : model.modules) {
      if (module.layer != layer) continue;
      measure(module);
      progress.advance();
    }
    hidden = decoder.layer(layer, hidden);
  }
}

void describe_calibration(Scores& scores, const Evidence& evidence) {
  scores.details["calibration"] = {{"source", evidence.calibration->source},
                                   {"tokens", evidence.calibration->tokens()},
                                   {"window", evidence.calibration->window()},
                                   {"fingerprint", evidence.calibration->fingerprint}};
}

}  // namespace strata
