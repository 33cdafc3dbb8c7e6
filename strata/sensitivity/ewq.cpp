#include <algorithm>
#include <cmath>

#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

// H = -sum p ln p of p = exp(w) / Z, as ln Z' - (sum (w - m) exp(w - m)) / Z' with Z' = sum exp(w - m) and m
// the largest weight: no exponential overflows, and Z' >= 1.
double softmax_entropy(MatrixView<const float> weights) {
  const float largest = *std::max_element(weights.data, weights.data + weights.size());
  const double partition = sum_over(weights, [=](const float* w, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(w[i]) - largest);
    return sum;
  });
  const double energy = sum_over(weights, [=](const float* w, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double x = static_cast<double>(w[i]) - largest;
      sum += x * std::exp(x);
    }
    return sum;
  });
  return std::log(partition) - energy / partition;
}

}  // namespace

// Entropy, in nats, of the softmax over all weights of a matrix (entropy-weighted quantization, arXiv
// 2503.04704).
Scores score_ewq(const Model& model, const SensitivityOptions&, const Evidence&) {
  return mean_layer_scores(model, "ewq", module_values(model, "scoring by entropy", softmax_entropy));
}

}  // namespace strata
