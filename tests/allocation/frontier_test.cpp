#include "strata/allocation/frontier.h"

#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/error.h"
#include "strata/core/random.h"

namespace strata {
namespace {

const std::vector<Scheme>& menu() {
  static const std::vector<Scheme> schemes = parse_schemes("w2g64,w3g64,w4g64,w6g64");
  return schemes;
}

Scores random_scores(uint64_t seed, int layers) {
  Random random(seed);
  Scores scores;
  scores.model = "model";
  scores.method = "kl";
  for (int layer = 0; layer < layers; ++layer)
    for (const char* module : {"self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"}) {
      const int64_t rows = std::string(module) == "self_attn.q_proj" ? 128 : 320;
      scores.modules.push_back(
          {layer, module, fmt::format("model.layers.{}.{}.weight", layer, module), rows, 256});
    }
  scores.boundaries.push_back({-1, "embedding", "model.embed_tokens.weight", 512, 256});
  std::vector<AllocationModule> all = scores.modules;
  all.push_back(scores.boundaries.front());
  for (const AllocationModule& module : all) {
    const double weight = std::exp(2 * random.normal());
    for (const Scheme& scheme : menu())
      scores.costs.push_back({module.tensor, module.rows, module.cols, scheme.name(),
                              weight * std::exp(-1.4 * scheme.code_bits_per_weight(module.rows, module.cols) +
                                                0.5 * random.normal())});
  }
  return scores;
}

struct SizeAndCost {
  uint64_t bytes;
  double cost;
};

// All plans there are, by counting through them.
std::vector<SizeAndCost> all_plans(const Scores& scores) {
  std::vector<AllocationModule> modules = scores.modules;
  modules.push_back(scores.boundaries.front());
  std::vector<SizeAndCost> plans = {{0, 0}};
  for (size_t m = 0; m < modules.size(); ++m) {
    std::vector<SizeAndCost> longer;
    for (const SizeAndCost& plan : plans)
      for (size_t s = 0; s < menu().size(); ++s)
        longer.push_back({plan.bytes + menu()[s].stored_bits(modules[m].rows, modules[m].cols) / 8,
                          plan.cost + scores.costs[m * menu().size() + s].cost});
    plans = std::move(longer);
  }
  return plans;
}

AllocatorOptions with_boundaries(const Scores& scores) {
  AllocatorOptions options;
  options.boundaries = scores.boundaries;
  return options;
}

TEST(Frontier, HasThePlanOfLeastCostForEachOfItsSizesAndNoneLiesBelowIt) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const Scores scores = random_scores(seed, 2);
    const Frontier found = frontier(scores.modules, scores, with_boundaries(scores));
    ASSERT_GE(found.points.size(), 10u);
    const std::vector<SizeAndCost> plans = all_plans(scores);
    for (const FrontierPoint& point : found.points) {
      double least = INFINITY;
      bool is_plan = false;
      for (const SizeAndCost& plan : plans) {
        if (plan.bytes > point.bytes) continue;
        least = std::min(least, plan.cost);
        is_plan = is_plan || (plan.bytes == point.bytes && std::abs(plan.cost - point.cost) < 1e-12);
      }
      EXPECT_TRUE(is_plan);
      EXPECT_NEAR(point.cost, least, 1e-12);
    }
    for (size_t i = 1; i < found.points.size(); ++i) {
      const FrontierPoint &a = found.points[i - 1], &b = found.points[i];
      ASSERT_LT(a.bytes, b.bytes);
      for (const SizeAndCost& plan : plans) {
        if (plan.bytes < a.bytes || plan.bytes > b.bytes) continue;
        const double part =
            static_cast<double>(plan.bytes - a.bytes) / static_cast<double>(b.bytes - a.bytes);
        EXPECT_GE(plan.cost, a.cost + part * (b.cost - a.cost) - 1e-12);
      }
    }
  }
}

TEST(Frontier, AgreesWithTheAllocatorAtItsPointsAlsoWithTies) {
  const Scores scores = random_scores(7, 12);
  for (const Ties ties : {Ties::None, Ties::Layer}) {
    AllocatorOptions options = with_boundaries(scores);
    options.ties = ties;
    const Frontier found = frontier(scores.modules, scores, options);
    for (size_t i = 0; i < found.points.size(); i += 7) {
      options.budget.bytes = found.points[i].bytes;
      const Plan plan = allocate(scores.modules, scores, options);
      EXPECT_NEAR(*plan.cost, found.points[i].cost, 1e-9 * found.points[i].cost) << i;
      EXPECT_NEAR(plan.bits_per_weight, found.points[i].bits_per_weight, 1e-9);
    }
  }
}

TEST(Frontier, HasUniformPlansAboveIt) {
  const Scores scores = random_scores(3, 4);
  const Frontier found = frontier(scores.modules, scores, with_boundaries(scores));
  ASSERT_EQ(found.uniform.size(), menu().size());
  for (const auto& [scheme, uniform] : found.uniform) {
    const FrontierPoint* point = point_within(found, uniform.bytes);
    ASSERT_NE(point, nullptr);
    EXPECT_LE(point->cost, uniform.cost) << scheme;
    if (scheme == "w3g64" || scheme == "w4g64") {
      EXPECT_LT(point->cost, uniform.cost) << scheme;
    }
  }
  EXPECT_EQ(point_within(found, found.points.front().bytes - 1), nullptr);
  EXPECT_EQ(point_within(found, UINT64_MAX), &found.points.back());
}

TEST(Frontier, NamesAMatrixWithoutCosts) {
  Scores scores = random_scores(0, 2);
  scores.costs.erase(scores.costs.begin());
  try {
    frontier(scores.modules, scores, with_boundaries(scores));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers.0.self_attn.q_proj.weight"), std::string::npos);
  }
}

// log cost falls by `first` a step up to `bend`, then by `second`.
std::vector<FrontierPoint> bent(double first, double second, uint64_t bend) {
  std::vector<FrontierPoint> points;
  double log_cost = 0;
  for (uint64_t i = 0; i <= 100; ++i) {
    points.push_back({1000 + i, 0, std::exp(log_cost)});
    log_cost -= i < bend ? first : second;
  }
  return points;
}

TEST(Knees, AreWhereTheCurveBends) {
  EXPECT_EQ(knees(bent(0.1, 0.02, 40)), std::vector<size_t>({40}));
  EXPECT_EQ(knees(bent(0.05, 0.05, 40)), std::vector<size_t>());  // straight
  EXPECT_EQ(knees(bent(0.02, 0.1, 40)), std::vector<size_t>());   // bends the other way
  EXPECT_EQ(knees({}), std::vector<size_t>());
}

}  // namespace
}  // namespace strata
