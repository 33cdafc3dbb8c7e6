#include "strata/sensitivity/nsds_aggregation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "strata/core/random.h"

namespace strata {
namespace {

constexpr int kUp = static_cast<int>(NsdsComponent::Up), kDown = static_cast<int>(NsdsComponent::Down);

NsdsLayer layer_of(int component, double nv, double se) {
  NsdsLayer layer;
  layer[component] = ComponentValues{nv, se};
  return layer;
}

// NV 1, 2, 4: median 2, MAD 1. SE 5, 5, 8: median 5, MAD 0, so z is 0, 0 and 3e12.
TEST(NsdsAggregation, FollowsTheFormulaOnNumbersWorkedByHand) {
  const std::vector<NsdsLayer> layers = {layer_of(kUp, 1, 5), layer_of(kUp, 2, 5), layer_of(kUp, 4, 8)};
  const std::vector<NsdsLayerScore> bare = aggregate_nsds(layers, false);
  EXPECT_NEAR(*bare[0].numerical[kUp], 0.2689414214, 1e-9);  // 1 / (1 + e)
  EXPECT_NEAR(*bare[1].numerical[kUp], 0.5, 1e-12);
  EXPECT_NEAR(*bare[2].numerical[kUp], 0.8807970780, 1e-9);  // 1 / (1 + e^-2)
  EXPECT_NEAR(*bare[0].structural[kUp], 0.5, 1e-12);
  EXPECT_EQ(*bare[2].structural[kUp], 1);
  EXPECT_NEAR(bare[0].soft_or, 1 - (1 - 0.2689414214) * 0.5, 1e-9);
  EXPECT_NEAR(bare[0].log_form, -std::log((1 - 0.2689414214) * 0.5), 1e-9);
  EXPECT_NEAR(bare[2].log_form, 3e12 + 2.1269280110, 1e-2);

  const std::vector<NsdsLayerScore> consistent = aggregate_nsds(layers, true);
  EXPECT_NEAR(*consistent[0].numerical[kUp], 1 / (1 + std::exp(1 / 1.4826)), 1e-9);
  EXPECT_NEAR(*consistent[2].numerical[kUp], 1 / (1 + std::exp(-2 / 1.4826)), 1e-9);
}

TEST(NsdsAggregation, JoinsComponentsAndAspectsBySoftOr) {
  std::vector<NsdsLayer> layers = {layer_of(kUp, 1, 3), layer_of(kUp, 2, 2), layer_of(kUp, 4, 1)};
  layers[0][kDown] = ComponentValues{6, 1};
  layers[1][kDown] = ComponentValues{7, 4};
  layers[2][kDown] = ComponentValues{9, 2};
  for (const NsdsLayerScore& score : aggregate_nsds(layers, true)) {
    const double nv = 1 - (1 - *score.numerical[kUp]) * (1 - *score.numerical[kDown]);
    const double se = 1 - (1 - *score.structural[kUp]) * (1 - *score.structural[kDown]);
    EXPECT_NEAR(score.p_numerical, nv, 1e-12);
    EXPECT_NEAR(score.p_structural, se, 1e-12);
    EXPECT_NEAR(score.soft_or, 1 - (1 - nv) * (1 - se), 1e-12);
    EXPECT_NEAR(score.log_form, -std::log1p(-score.soft_or), 1e-10);
  }
}

TEST(NsdsAggregation, EqualLayersAreAllOneHalf) {
  const std::vector<NsdsLayer> layers(4, layer_of(kUp, 3.25, 7.5));
  for (const NsdsLayerScore& score : aggregate_nsds(layers, true)) {
    EXPECT_EQ(*score.numerical[kUp], 0.5);
    EXPECT_EQ(*score.structural[kUp], 0.5);
    EXPECT_NEAR(score.soft_or, 0.75, 1e-12);
  }
  EXPECT_NEAR(aggregate_nsds({layer_of(kUp, 3, 4)}, true)[0].soft_or, 0.75, 1e-12);
}

TEST(NsdsAggregation, AMissingComponentIsSkipped) {
  std::vector<NsdsLayer> layers = {layer_of(kUp, 1, 3), layer_of(kUp, 2, 2), layer_of(kUp, 4, 1)};
  const std::vector<NsdsLayerScore> without = aggregate_nsds(layers, true);
  EXPECT_FALSE(without[0].numerical[kDown].has_value());
  layers[1][kDown] = ComponentValues{1, 1};  // the only layer that has one
  const std::vector<NsdsLayerScore> with = aggregate_nsds(layers, true);
  EXPECT_EQ(with[0].log_form, without[0].log_form);
  EXPECT_EQ(*with[1].numerical[kDown], 0.5);
  EXPECT_NEAR(with[1].log_form, without[1].log_form + 2 * std::log(2.0), 1e-12);
}

TEST(NsdsAggregation, TheLogFormRanksAsTheSoftOrAndBeyondWhereItSaturates) {
  Random random(3);
  std::vector<NsdsLayer> layers(40);
  for (NsdsLayer& layer : layers)
    for (auto& component : layer) component = ComponentValues{random.normal(), std::exp(random.normal())};
  layers[7][kUp]->numerical_vulnerability = 500;
  layers[8][kUp]->numerical_vulnerability = 600;
  const std::vector<NsdsLayerScore> scores = aggregate_nsds(layers, true);
  EXPECT_EQ(scores[7].soft_or, 1);
  EXPECT_EQ(scores[8].soft_or, 1);
  EXPECT_LT(scores[7].log_form, scores[8].log_form);
  for (const NsdsLayerScore& a : scores)
    for (const NsdsLayerScore& b : scores)
      if (a.soft_or < b.soft_or) {
        EXPECT_LT(a.log_form, b.log_form);
      }
}

}  // namespace
}  // namespace strata
