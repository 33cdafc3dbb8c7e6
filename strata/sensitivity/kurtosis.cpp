#include "strata/core/statistics.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

// Population Pearson kurtosis (normal = 3) over all entries of a matrix: what KurtBoost takes the differences
// of (arXiv 2503.06518).
Scores score_kurtosis(const Model& model, const SensitivityOptions&, const Evidence&) {
  std::vector<double> values;
  for_each_module(model, "scoring by kurtosis", [&](const Module&, MatrixView<const float> weights) {
    values.push_back(moments(weights.data, weights.size()).kurtosis());
  });
  return per_module_scores(model, "kurtosis", values);
}

}  // namespace strata
