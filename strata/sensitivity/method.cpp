#include "strata/sensitivity/method.h"

#include "strata/core/error.h"
#include "strata/sensitivity/costs.h"
#include "strata/sensitivity/methods.h"

namespace strata {

const std::vector<SensitivityMethod>& sensitivity_methods() {
  static const std::vector<SensitivityMethod> methods = {
      {"nsds", "numerical and structural dual sensitivity of whole layers (arXiv 2603.17354)", false,
       score_nsds},
      {"kurtosis", "Pearson kurtosis of every matrix, what KurtBoost looks at (arXiv 2503.06518)", false,
       score_kurtosis},
      {"weight-error", "squared error of rounding every matrix to the lowest width", false,
       score_weight_error},
      {"zd", "share of weights more than a standard deviation from the mean (LIM's z-score distribution)",
       false, score_zd},
      {"ewq", "entropy of the softmax over a matrix's weights (entropy-weighted quantization)", false,
       score_ewq},
      {"first-last", "the further from the middle of the stack, the more sensitive", false, score_first_last},
      {"random", "a seeded random order of the layers", false, score_random},
      {"uniform", "all layers alike", false, score_uniform},
  };
  return methods;
}

const SensitivityMethod& sensitivity_method(std::string_view name) {
  std::string known;
  for (const SensitivityMethod& method : sensitivity_methods()) {
    if (method.name == name) return method;
    known += (known.empty() ? "" : ", ") + method.name;
  }
  fail_usage("there is no sensitivity method \"{}\"; choose one of {}", name, known);
}

Scores score(const Model& model, std::string_view name, const SensitivityOptions& asked) {
  const SensitivityMethod& method = sensitivity_method(name);
  SensitivityOptions options = asked;
  if (method.needs_calibration && !options.calibration)
    options.calibration =
        require_calibration(model, options.calibration_source, options.device, "--method " + method.name);
  Scores scores = method.score(model, options);
  if (options.schemes.empty()) return scores;
  const WeightErrors measured =
      options.errors ? WeightErrors{} : measure_weight_errors(model, options.schemes, options.quantizer);
  const WeightErrors& errors = options.errors ? *options.errors : measured;
  scores.costs = name == "weight-error" ? absolute_costs(errors) : weighed_costs(scores, errors);
  return scores;
}

}  // namespace strata
