#include "strata/sensitivity/calibrated.h"

namespace strata {

ActivationStream activations_of(const Model& model, const SensitivityOptions& options) {
  ActivationOptions activations;
  activations.device = options.device;
  return ActivationStream(model, *options.calibration, activations);
}

void describe_calibration(Scores& scores, const SensitivityOptions& options) {
  scores.details["calibration"] = {{"source", options.calibration->source},
                                   {"tokens", options.calibration->tokens()},
                                   {"window", options.calibration->window()},
                                   {"fingerprint", options.calibration->fingerprint}};
}

}  // namespace strata
