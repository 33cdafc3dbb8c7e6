#include "strata/allocation/choice_problem.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "strata/core/random.h"

namespace strata {
namespace {

constexpr double kInfiniteCost = std::numeric_limits<double>::infinity();

// Costs fall with use, as errors do, but for noise that makes some options dominated.
ChoiceProblem random_problem(Random& random, int groups, int options, int limits, int64_t largest_use) {
  ChoiceProblem problem;
  std::vector<int64_t> smallest(limits, 0), largest(limits, 0);
  for (int g = 0; g < groups; ++g) {
    auto& group = problem.groups.emplace_back();
    const double weight = std::exp(2 * random.normal());
    for (int o = 0; o < options; ++o) {
      ChoiceOption option;
      for (int l = 0; l < limits; ++l) option.use.push_back(static_cast<int64_t>(random.below(largest_use)));
      const double share = static_cast<double>(option.use[0]) / static_cast<double>(largest_use);
      option.cost = weight * std::exp(-3 * share + 0.3 * random.normal());
      group.push_back(option);
    }
    for (int l = 0; l < limits; ++l) {
      int64_t low = largest_use, high = 0;
      for (const ChoiceOption& option : group) {
        low = std::min(low, option.use[l]);
        high = std::max(high, option.use[l]);
      }
      smallest[l] += low;
      largest[l] += high;
    }
  }
  for (int l = 0; l < limits; ++l)
    problem.limits.push_back(smallest[l] + static_cast<int64_t>(random.below(largest[l] - smallest[l] + 1)));
  return problem;
}

// Least cost under one limit, by dynamic programming over the use.
double by_dynamic_programming(const ChoiceProblem& problem) {
  const size_t limit = static_cast<size_t>(problem.limits[0]);
  std::vector<double> least(limit + 1, 0.0);
  for (const auto& group : problem.groups) {
    std::vector<double> next(limit + 1, kInfiniteCost);
    for (const ChoiceOption& option : group)
      for (size_t used = static_cast<size_t>(option.use[0]); used <= limit; ++used)
        next[used] = std::min(next[used], least[used - static_cast<size_t>(option.use[0])] + option.cost);
    least = std::move(next);
  }
  return least[limit];
}

double by_brute_force(const ChoiceProblem& problem, std::vector<int>& chosen, size_t group = 0) {
  if (group == problem.groups.size())
    return meets_limits(problem, chosen) ? cost_of(problem, chosen) : kInfiniteCost;
  double least = kInfiniteCost;
  for (size_t o = 0; o < problem.groups[group].size(); ++o) {
    chosen[group] = static_cast<int>(o);
    least = std::min(least, by_brute_force(problem, chosen, group + 1));
  }
  return least;
}

TEST(ChoiceProblem, FindsTheOptimumOfDynamicProgramming) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int groups = 2 + static_cast<int>(random.below(60));
    const ChoiceProblem problem = random_problem(random, groups, 2 + seed % 11, 1, 8 + random.below(60));
    const auto solution = solve(problem, {});
    ASSERT_TRUE(solution);
    EXPECT_TRUE(meets_limits(problem, solution->chosen));
    const double optimum = by_dynamic_programming(problem);
    EXPECT_NEAR(solution->cost, optimum, 1e-9 * optimum);
    EXPECT_DOUBLE_EQ(solution->cost, cost_of(problem, solution->chosen));
    EXPECT_EQ(solution->gap(), 0);
  }
}

TEST(ChoiceProblem, MeetsSeveralLimitsAtTheOptimumOfBruteForce) {
  int infeasible = 0;
  for (uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(seed);
    Random random(1000 + seed);
    const ChoiceProblem problem =
        random_problem(random, 2 + static_cast<int>(random.below(5)), 4, 2 + seed % 2, 30);
    std::vector<int> chosen(problem.groups.size());
    const double optimum = by_brute_force(problem, chosen);
    const auto solution = solve(problem, {});
    ASSERT_EQ(solution.has_value(), optimum < kInfiniteCost);
    if (!solution) {
      ++infeasible;
      continue;
    }
    EXPECT_TRUE(meets_limits(problem, solution->chosen));
    EXPECT_NEAR(solution->cost, optimum, 1e-9 * optimum);
  }
  EXPECT_GT(infeasible, 5);  // both answers occur
  EXPECT_LT(infeasible, 100);
}

// 600 matrices of three shapes, as a model has them: far more choices than a tree search gets through.
TEST(ChoiceProblem, ProvesTheOptimumWhereSizesRepeat) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    ChoiceProblem problem;
    for (int g = 0; g < 600; ++g) {
      auto& group = problem.groups.emplace_back();
      const int64_t size = int64_t{1} << (g % 3);
      const double weight = std::exp(random.normal()) * static_cast<double>(size);
      for (const int64_t bits : {2, 3, 4, 5, 6, 8})
        group.push_back({weight * std::exp(-1.4 * static_cast<double>(bits) + 0.1 * random.normal()),
                         {size * bits, size * (bits + static_cast<int64_t>(random.below(2)))}});
    }
    problem.limits = {4900, 5000 + static_cast<int64_t>(random.below(400))};
    const auto solution = solve(problem, {});
    ASSERT_TRUE(solution);
    EXPECT_TRUE(meets_limits(problem, solution->chosen));
    EXPECT_EQ(solution->gap(), 0);

    problem.limits.pop_back();
    for (auto& group : problem.groups)
      for (ChoiceOption& option : group) option.use.pop_back();
    const auto single = solve(problem, {});
    ASSERT_TRUE(single);
    EXPECT_EQ(single->gap(), 0);
    EXPECT_NEAR(single->cost, by_dynamic_programming(problem), 1e-9 * single->cost);
    EXPECT_LE(single->cost, solution->cost);  // one limit fewer
  }
}

TEST(ChoiceProblem, StopsWithinTheGapItWasGivenAndSaysHowFarItIs) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed);
    const ChoiceProblem problem = random_problem(random, 40, 8, 1, 50);
    ChoiceSettings settings;
    settings.relative_gap = 0.02;
    const auto solution = solve(problem, settings);
    ASSERT_TRUE(solution);
    const double optimum = by_dynamic_programming(problem);
    EXPECT_LE(solution->gap(), 0.02);
    EXPECT_LE(solution->bound, optimum * (1 + 1e-12));  // a bound is a bound
    EXPECT_LE(solution->cost, optimum * 1.0205);
  }
}

TEST(ChoiceProblem, ScalesOfCostsAndUsesDoNotMatter) {
  Random random(5);
  const ChoiceProblem problem = random_problem(random, 30, 6, 1, 40);
  ChoiceProblem scaled = problem;
  for (auto& group : scaled.groups)
    for (ChoiceOption& option : group) {
      option.cost *= 1e-14;
      option.use[0] = option.use[0] * 1'000'003 + 12'345'678'901;
    }
  scaled.limits[0] = problem.limits[0] * 1'000'003 + 30 * int64_t{12'345'678'901};
  EXPECT_EQ(solve(problem, {})->chosen, solve(scaled, {})->chosen);
}

TEST(ChoiceProblem, ExtremeCostsGiveFiniteAnswers) {
  for (double scale : {1e300, 1e-300, 5e-324}) {
    SCOPED_TRACE(scale);
    ChoiceProblem problem;
    problem.groups.assign(6, {{scale, {1}}, {scale / 2, {2}}});
    problem.limits = {9};
    const auto solution = solve(problem, {});
    ASSERT_TRUE(solution);
    EXPECT_TRUE(meets_limits(problem, solution->chosen));
    EXPECT_TRUE(std::isfinite(solution->gap()));
  }
}

TEST(ChoiceProblem, ConstantCostsAreOptimalAtOnce) {
  ChoiceProblem problem;
  problem.groups.assign(5, {{0.0, {3}}, {0.0, {1}}});
  problem.limits = {7};
  const auto solution = solve(problem, {});
  ASSERT_TRUE(solution);
  EXPECT_TRUE(meets_limits(problem, solution->chosen));
  EXPECT_EQ(solution->gap(), 0);
}

}  // namespace
}  // namespace strata
