#include <cmath>

#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

// Distance from the middle of the stack, in (0, 1]; the first and the last layer have 1.
Scores score_first_last(const Model& model, const SensitivityOptions&, const Evidence&) {
  const int64_t layers = model.config.num_layers;
  std::vector<double> values;
  for (int64_t layer = 0; layer < layers; ++layer)
    values.push_back(static_cast<double>(std::abs(2 * layer - (layers - 1)) + 1) /
                     static_cast<double>(layers));
  return layer_scores(model, "first-last", values);
}

}  // namespace strata
