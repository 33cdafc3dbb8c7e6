#include <cmath>

#include "strata/core/statistics.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

// Share of a matrix's weights with |z| > 1, z = (w - mean) / population deviation: the z-score distribution
// of "Layer-Wise Quantization" (LIM, arXiv 2406.17415).
Scores score_zd(const Model& model, const SensitivityOptions&, const Evidence&) {
  const auto outlying_share = [](MatrixView<const float> weights) {
    const Moments all = moments(weights.data, weights.size());
    const double mean = all.mean, deviation = std::sqrt(all.variance());
    const double outside = sum_over(weights, [=](const float* w, int64_t n) {
      int64_t count = 0;
      for (int64_t i = 0; i < n; ++i) count += std::abs(w[i] - mean) > deviation;
      return static_cast<double>(count);
    });
    return outside / static_cast<double>(weights.size());
  };
  return mean_layer_scores(model, "zd", module_values(model, "scoring by z-scores", outlying_share));
}

}  // namespace strata
