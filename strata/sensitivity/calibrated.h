#pragma once

#include "strata/calibration/activations.h"
#include "strata/sensitivity/method.h"

namespace strata {

// A stream of the options' calibration through the model on their device.
ActivationStream activations_of(const Model& model, const SensitivityOptions& options);

// Adds to the scores' details what they were measured on.
void describe_calibration(Scores& scores, const SensitivityOptions& options);

}  // namespace strata
