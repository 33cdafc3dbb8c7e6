#include <algorithm>

#include "strata/sensitivity/costs.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

// The scheme that takes the fewest bits over the whole model.
Scheme lowest_scheme(const Model& model, const std::vector<Scheme>& schemes) {
  if (schemes.empty()) return parse_scheme("w2g64");
  const auto stored_bits = [&](const Scheme& scheme) {
    uint64_t bits = 0;
    for (const Module& module : model.modules) bits += scheme.stored_bits(module.rows, module.cols);
    return bits;
  };
  return *std::min_element(schemes.begin(), schemes.end(),
                           [&](const Scheme& a, const Scheme& b) { return stored_bits(a) < stored_bits(b); });
}

}  // namespace

// Squared error of rounding a matrix to the lowest width, sum (w - w')^2.
Scores score_weight_error(const Model& model, const SensitivityOptions& options) {
  const Scheme low = lowest_scheme(model, options.schemes);
  std::vector<double> values;
  if (options.errors) {
    const std::vector<Scheme>& measured = options.errors->schemes;
    const size_t at = std::find(measured.begin(), measured.end(), low) - measured.begin();
    if (at < measured.size())
      for (const WeightErrors::Row& row : options.errors->rows) values.push_back(row.squared_errors[at]);
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
