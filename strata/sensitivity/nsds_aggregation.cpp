#include "strata/sensitivity/nsds_aggregation.h"

#include <algorithm>
#include <cmath>

#include "strata/core/statistics.h"

namespace strata {
namespace {

std::vector<double> robust_z(const std::vector<double>& values, bool consistent_mad) {
  const double centre = median(values);
  const double spread = (consistent_mad ? 1.4826 : 1.0) * median_absolute_deviation(values) + 1e-12;
  std::vector<double> z;
  for (double value : values) z.push_back((value - centre) / spread);
  return z;
}

double logistic(double z) {
  return z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z));
}

// -ln(1 - logistic(z)) = ln(1 + exp(z)), without overflow.
double surprise(double z) {
  return std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z)));
}

// Adds one aspect of one component to the scores of the layers that have it; `surprises` gather
// -sum ln(1 - P) of the aspect.
void add_component(const std::vector<NsdsLayer>& layers, int component, double ComponentValues::*aspect,
                   bool consistent_mad, std::vector<NsdsLayerScore>& scores,
                   PerComponent<std::optional<double>> NsdsLayerScore::*probabilities,
                   std::vector<double>& surprises) {
  std::vector<double> values;
  std::vector<size_t> owners;
  for (size_t layer = 0; layer < layers.size(); ++layer)
    if (const auto& present = layers[layer][component]) {
      values.push_back((*present).*aspect);
      owners.push_back(layer);
    }
  const std::vector<double> z = robust_z(values, consistent_mad);
  for (size_t i = 0; i < z.size(); ++i) {
    (scores[owners[i]].*probabilities)[component] = logistic(z[i]);
    surprises[owners[i]] += surprise(z[i]);
  }
}

}  // namespace

std::string_view name_of(NsdsComponent component) {
  constexpr std::string_view names[] = {"qk", "ov", "gate", "up", "down"};
  return names[static_cast<int>(component)];
}

std::vector<NsdsLayerScore> aggregate_nsds(const std::vector<NsdsLayer>& layers, bool consistent_mad) {
  std::vector<NsdsLayerScore> scores(layers.size());
  std::vector<double> numerical(layers.size()), structural(layers.size());
  for (int component = 0; component < kNsdsComponents; ++component) {
    add_component(layers, component, &ComponentValues::numerical_vulnerability, consistent_mad, scores,
                  &NsdsLayerScore::numerical, numerical);
    add_component(layers, component, &ComponentValues::structural_expressiveness, consistent_mad, scores,
                  &NsdsLayerScore::structural, structural);
  }
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    NsdsLayerScore& score = scores[layer];
    score.p_numerical = -std::expm1(-numerical[layer]);
    score.p_structural = -std::expm1(-structural[layer]);
    score.log_form = numerical[layer] + structural[layer];
    score.soft_or = -std::expm1(-score.log_form);
  }
  return scores;
}

}  // namespace strata
