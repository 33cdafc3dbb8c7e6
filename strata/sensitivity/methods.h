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
Scores score_mxq(const Model& model, const SensitivityOptions& options);
Scores score_sensiboost(const Model& model, const SensitivityOptions& options);
Scores score_lim(const Model& model, const SensitivityOptions& options);
Scores score_lsaq(const Model& model, const SensitivityOptions& options);
Scores score_lieq(const Model& model, const SensitivityOptions& options);
Scores score_llm_mq(const Model& model, const SensitivityOptions& options);
Scores score_output_error(const Model& model, const SensitivityOptions& options);
Scores score_fisher(const Model& model, const SensitivityOptions& options);
Scores score_high_impact(const Model& model, const SensitivityOptions& options);
Scores score_infoq(const Model& model, const SensitivityOptions& options);
Scores score_kl(const Model& model, const SensitivityOptions& options);

}  // namespace strata
