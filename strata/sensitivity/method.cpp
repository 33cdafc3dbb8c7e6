#include "strata/sensitivity/method.h"

#include <algorithm>

#include "strata/calibration/row_impact.h"
#include "strata/core/error.h"
#include "strata/model/boundary_modules.h"
#include "strata/sensitivity/costs.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

const std::vector<SensitivityMethod>& sensitivity_methods() {
  static const std::vector<SensitivityMethod> methods = {
      {"nsds", "numerical and structural dual sensitivity of whole layers (arXiv 2603.17354)", false,
       score_nsds, nsds_options},
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
       score_mxq, nullptr, false, true},
      {"lim", "how far a layer turns its input: 1 - cosine of input and output (LIM)", true, score_lim},
      {"lsaq", "how few of the 50 likeliest tokens a layer's input and output share (LSAQ)", true,
       score_lsaq},
      {"lieq", "compactness of the q, k, v outputs against random weights (LieQ)", true, score_lieq},
      {"sensiboost", "error of each part's output when that part alone has 4 bits (arXiv 2503.06518)", true,
       score_sensiboost, sensiboost_options},
      {"llm-mq", "|<gradient, error>| of every matrix and scheme (LLM-MQ)", true, score_llm_mq, nullptr,
       false, true},
      {"output-error", "expected squared error of every matrix's output in every scheme", true,
       score_output_error, nullptr, true},
      {"fisher", "squared errors weighed by squared gradients, for every matrix and scheme", true,
       score_fisher, nullptr, false, true},
      {"infoq", "information about next tokens that the layers behind a matrix lose (arXiv 2508.04753)", true,
       score_infoq, infoq_options},
      {"kl", "measured KL divergence when one matrix takes one scheme, for all of both", true, score_kl,
       kl_options, false, true},
      {"high-impact",
       "measured errors of layers' outputs, of single matrices and pairs of them (arXiv 2511.17801)", true,
       score_high_impact, high_impact_options},
      {"prior", "what matrices of their role and place in the stack lose in other models", false,
       score_prior},
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

bool needs_tokens(const SensitivityMethod& method, bool has_imatrix) {
  return method.needs_calibration && !(method.takes_imatrix && has_imatrix);
}

bool mixes_rows(const std::vector<Scheme>& schemes) {
  return std::any_of(schemes.begin(), schemes.end(),
                     [](const Scheme& scheme) { return scheme.kind == Scheme::Kind::MixedRows; });
}

std::shared_ptr<const RowImpacts> row_impacts_for(const Model& model, const std::vector<Scheme>& schemes,
                                                  const SensitivityOptions& options,
                                                  const Evidence& evidence) {
  if (!mixes_rows(schemes) || evidence.row_impacts || !evidence.calibration) return evidence.row_impacts;
  return std::make_shared<const RowImpacts>(
      measure_row_impact(model, *evidence.calibration, options.device, options.cache));
}

Scores score_without_costs(const Model& model, std::string_view name, const SensitivityOptions& options,
                           const Evidence& evidence) {
  const SensitivityMethod& method = sensitivity_method(name);
  if (needs_tokens(method, evidence.imatrix != nullptr) && !evidence.calibration)
    fail("the method {} scores with calibration tokens, and none were given", name);
  Evidence complete = evidence;
  complete.row_impacts = row_impacts_for(model, options.schemes, options, evidence);
  SensitivityOptions measured = options;
  if (!method.measures_boundaries) measured.boundaries.clear();
  Scores scores = method.score(model, measured, complete);
  if (!scores.costs.empty() && scores.boundaries.empty()) add_boundary_costs(scores, options);
  return scores;
}

void add_costs(Scores& scores, const WeightErrors& errors) {
  if (!scores.costs.empty()) return;
  scores.costs = scores.method == "weight-error" ? absolute_costs(errors) : weighed_costs(scores, errors);
  for (const WeightErrors::Row& row : errors.rows)
    if (row.module.layer == kNoLayer) scores.boundaries.push_back(allocation_modules({row.module}).front());
}

Scores score(const Model& model, std::string_view method, const SensitivityOptions& options,
             const Evidence& evidence) {
  Scores scores = score_without_costs(model, method, options, evidence);
  if (options.schemes.empty() || !scores.costs.empty()) return scores;
  add_costs(scores, evidence.errors ? *evidence.errors
                                    : measure_weight_errors(model, options.schemes, options.quantizer,
                                                            options.boundaries));
  return scores;
}

}  // namespace strata
