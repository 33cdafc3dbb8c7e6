#include "strata/core/statistics.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

// Population Pearson kurtosis (normal = 3) over all entries of a matrix: what KurtBoost takes the differences
// of (arXiv 2503.06518).
Scores score_kurtosis(const Model& model, const SensitivityOptions&, const Evidence&) {
  const auto kurtosis = [](MatrixView<const float> weights) {
    return moments(weights.data, weights.size()).kurtosis();
  };
  return per_module_scores(model, "kurtosis", module_values(model, "scoring by kurtosis", kurtosis));
}

}  // namespace strata
