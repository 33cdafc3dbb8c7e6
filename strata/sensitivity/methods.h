#pragma once

#include "strata/sensitivity/method.h"

// The functions behind the registry, one file each.
namespace strata {

Scores score_nsds(const Model& model, const SensitivityOptions& options);
Scores score_kurtosis(const Model& model, const SensitivityOptions& options);
Scores score_weight_error(const Model& model, const SensitivityOptions& options);
Scores score_zd(const Model& model, const SensitivityOptions& options);
Scores score_ewq(const Model& model, const SensitivityOptions& options);
Scores score_random(const Model& model, const SensitivityOptions& options);
Scores score_first_last(const Model& model, const SensitivityOptions& options);
Scores score_uniform(const Model& model, const SensitivityOptions& options);

}  // namespace strata
