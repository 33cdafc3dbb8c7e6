#include "strata/sensitivity/method.h"

#include <algorithm>

#include "strata/calibration/row_impact.h"
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
      {"mxq", "Frobenius norm of every matrix's quantization error, what MXQ sums (ICAART 2025)", false,
       score_mxq},
      {"lim", "how far a layer turns its input: 1 - cosine of input and output (LIM)", true, score_lim},
      {"lsaq", "how few of the 50 likeliest tokens a layer's input and output share (LSAQ)", true,
       score_lsaq},
      {"lieq", "compactness of the q, k, v outputs against random weights (LieQ)", true, score_lieq},
      {"sensiboost", "error of each part's output when that part alone has 4 bits (arXiv 2503.06518)", true,
       score_sensiboost},
      {"llm-mq", "|<gradient, error>| of every matrix and scheme (LLM-MQ)", true, score_llm_mq},
      {"output-error", "expected squared error of every matrix's output in every scheme", true,
       score_output_error, true},
      {"fisher", "squared errors weighed by squared gradients, for every matrix and scheme", true,
       score_fisher},
      {"infoq", "information about next tokens that the layers behind a matrix lose (arXiv 2508.04753)", true,
       score_infoq},
      {"kl", "measured KL divergence when one matrix takes one scheme, for all of both", true, score_kl},
      {"high-impact",
       "measured errors of layers' outputs, of single matrices and pairs of them (arXiv 2511.17801)", true,
       score_high_impact},
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

bool needs_tokens(const SensitivityMethod& method, const SensitivityOptions& options) {
  return method.needs_calibration && !(method.takes_imatrix && options.imatrix);
}

void load_imatrix(const Model& model, SensitivityOptions& options) {
  if (!options.imatrix && !options.imatrix_file.empty())
    options.imatrix = std::make_shared<const Imatrix>(read_imatrix(options.imatrix_file, model));
}

bool mixes_rows(const std::vector<Scheme>& schemes) {
  return std::any_of(schemes.begin(), schemes.end(),
                     [](const Scheme& scheme) { return scheme.kind == Scheme::Kind::MixedRows; });
}

void load_row_impacts(const Model& model, const std::vector<Scheme>& schemes, SensitivityOptions& options) {
  if (!mixes_rows(schemes) || options.row_impacts || !options.calibration) return;
  options.row_impacts = std::make_shared<const RowImpacts>(
      measure_row_impact(model, *options.calibration, options.device, options.cache));
}

Scores score(const Model& model, std::string_view name, const SensitivityOptions& asked) {
  const SensitivityMethod& method = sensitivity_method(name);
  SensitivityOptions options = asked;
  load_imatrix(model, options);
  if (needs_tokens(method, options) && !options.calibration)
    options.calibration =
        require_calibration(model, options.calibration_source, options.device, "--method " + method.name);
  load_row_impacts(model, options.schemes, options);
  Scores scores = method.score(model, options);
  if (options.schemes.empty() || !scores.costs.empty()) return scores;
  const WeightErrors measured =
      options.errors ? WeightErrors{} : measure_weight_errors(model, options.schemes, options.quantizer);
  const WeightErrors& errors = options.errors ? *options.errors : measured;
  scores.costs = name == "weight-error" ? absolute_costs(errors) : weighed_costs(scores, errors);
  return scores;
}

}  // namespace strata
