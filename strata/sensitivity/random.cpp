#include "strata/core/random.h"

#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

// Seeded draws in (0, 1], one a layer.
Scores score_random(const Model& model, const SensitivityOptions& options, const Evidence&) {
  Random random(options.seed);
  std::vector<double> values;
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) values.push_back(1 - random.uniform());
  Scores scores = layer_scores(model, "random", values);
  scores.details["seed"] = options.seed;
  return scores;
}

}  // namespace strata
