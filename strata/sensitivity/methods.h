#pragma once

#include "strata/sensitivity/method.h"

// The functions behind the registry, one file each, with what declares the options of some.
namespace strata {

Scores score_nsds(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Options nsds_options(OptionValues& values);
Scores score_kurtosis(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_weight_error(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_zd(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_ewq(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_random(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_first_last(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_prior(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_uniform(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_mxq(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_sensiboost(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Options sensiboost_options(OptionValues& values);
Scores score_lim(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_lsaq(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_lieq(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_llm_mq(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_output_error(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_fisher(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Scores score_high_impact(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Options high_impact_options(OptionValues& values);
Scores score_infoq(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Options infoq_options(OptionValues& values);
Scores score_kl(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
Options kl_options(OptionValues& values);

}  // namespace strata
