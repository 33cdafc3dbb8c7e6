#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

Scores score_uniform(const Model& model, const SensitivityOptions&, const Evidence&) {
  return layer_scores(model, "uniform", std::vector<double>(model.config.num_layers, 1.0));
}

}  // namespace strata
