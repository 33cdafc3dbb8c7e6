#include "strata/sensitivity/calibrated.h"

#include <algorithm>

#include "strata/core/error.h"

namespace strata {

ActivationStream activations_of(const Model& model, const SensitivityOptions& options) {
  ActivationOptions activations;
  activations.device = options.device;
  return ActivationStream(model, *options.calibration, activations);
}

std::shared_ptr<const Calibration> first_blocks(const Calibration& calibration, int64_t tokens,
                                                const std::string& method) {
  if (tokens < 1) fail_usage("{} tokens were asked for {}, expected at least one", tokens, method);
  const int64_t blocks = std::min((tokens - 1) / calibration.window() + 1, calibration.blocks());
  return std::make_shared<const Calibration>(
      make_calibration(calibration.ids.narrow(0, 0, blocks), calibration.source));
}

void describe_calibration(Scores& scores, const SensitivityOptions& options) {
  scores.details["calibration"] = {{"source", options.calibration->source},
                                   {"tokens", options.calibration->tokens()},
                                   {"window", options.calibration->window()},
                                   {"fingerprint", options.calibration->fingerprint}};
}

}  // namespace strata
