#include <algorithm>

#include "strata/sensitivity/costs.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
// Squared error of rounding a matrix to the lowest width, sum (w - w')^2.
Scores score_weight_error(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const Scheme low = lowest_scheme(model, options.schemes);
  std::vector<double> values;
  if (evidence.errors) {
    const std::vector<Scheme>& measured = evidence.errors->schemes;
    const size_t at = std::find(measured.begin(), measured.end(), low) - measured.begin();
    if (at < measured.size())
      for (const WeightErrors::Row& row : evidence.errors->rows) values.push_back(row.squared_errors[at]);
  }
  if (values.empty())
    for (const WeightErrors::Row& row : measure_weight_errors(model, {low}, options.quantizer).rows)
      values.push_back(row.squared_errors[0]);
  Scores scores = per_module_scores(model, "weight-error", values);
  scores.details["scheme"] = low.name();
  scores.details["quantizer"] = options.quantizer.name;
  return scores;
}

}  // namespace strata
