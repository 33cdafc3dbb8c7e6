#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "strata/allocation/allocator.h"
#include "strata/allocation/coupled_block.h"
#include "strata/allocation/exact.h"
#include "strata/allocation/quadratic.h"
#include "strata/core/random.h"
#include "tests/support/error_of.h"

namespace strata {
namespace {

constexpr double kNoChoice = std::numeric_limits<double>::infinity();
constexpr const char* kSchemes = "w2g64+w3@0,w2g64+w3@0.1,w2g64+w3@0.5";

// The costs x' M x of a random M over (module, scheme) within every layer: definite (M = A A') or not.
Scores random_scores(Random& random, int layers, int modules, const std::vector<Scheme>& schemes,
                     bool definite) {
  Scores scores;
  scores.method = "high-impact";
  const auto options = schemes.size(), size = static_cast<size_t>(modules) * options;
  for (int layer = 0; layer < layers; ++layer) {
    std::vector<double> factor(size * size), m(size * size, 0.0);
    for (double& value : factor) value = random.normal();
    for (size_t i = 0; i < size; ++i)
      for (size_t j = 0; j < size; ++j) {
        if (definite)
          for (size_t k = 0; k < size; ++k) m[i * size + j] += factor[i * size + k] * factor[j * size + k];
        else
          m[i * size + j] = factor[std::min(i, j) * size + std::max(i, j)];
      }
    const auto tensor = [&](size_t i) {
      return fmt::format("model.layers.{}.m{}.weight", layer, i / options);
    };
    for (size_t i = 0; i < size; ++i) {
      const int64_t rows = 40 + 20 * static_cast<int64_t>(i / options % 3);
      scores.costs.push_back({tensor(i), rows, 128, schemes[i % options].name(), m[i * size + i]});
      for (size_t j = i + 1; j < size; ++j)
        if (i / options != j / options) {
          // Half of what x' M x has, given in either order.
          PairCost pair{tensor(i), schemes[i % options].name(), tensor(j), schemes[j % options].name(),
                        2 * m[i * size + j]};
          if ((i + j) % 2 == 0) {
            std::swap(pair.first_tensor, pair.second_tensor);
            std::swap(pair.first_scheme, pair.second_scheme);
          }
          scores.pair_costs.push_back(pair);
        }
    }
  }
  return scores;
}

double cost_of(const Scores& scores, const std::vector<Assignment>& plan, bool interactions) {
  std::map<std::string, std::string> scheme_of;
  for (const Assignment& assignment : plan) scheme_of[assignment.tensor] = assignment.scheme.name();
  double cost = 0;
  for (const Cost& line : scores.costs)
    if (scheme_of.at(line.tensor) == line.scheme) cost += line.cost;
  if (!interactions) return cost;
  for (const PairCost& pair : scores.pair_costs)
    if (scheme_of.at(pair.first_tensor) == pair.first_scheme &&
        scheme_of.at(pair.second_tensor) == pair.second_scheme)
      cost += pair.cost;
  return cost;
}

bool meets(const Budget& budget, Plan plan) {
  plan.sum_up();
  constexpr double kRounding = 1e-9;
  return (!budget.bits_per_weight || plan.bits_per_weight <= *budget.bits_per_weight + kRounding) &&
         (!budget.average_code_bits || plan.average_code_bits <= *budget.average_code_bits + kRounding) &&
         (!budget.bytes || plan.bytes <= *budget.bytes);
}

// Every plan in turn; modules of `ties` share a scheme.
double least_cost(const Scores& scores, const std::vector<AllocationModule>& modules,
                  const AllocatorOptions& options) {
  Plan plan;
  for (const AllocationModule& module : modules)
    plan.assignments.push_back({module.tensor, module.rows, module.cols, options.schemes[0]});
  std::vector<size_t> free;  // modules whose scheme is not that of the one before
  for (size_t m = 0; m < modules.size(); ++m)
    if (options.ties == Ties::None || m == 0 || modules[m].layer != modules[m - 1].layer) free.push_back(m);
  double least = kNoChoice;
  const size_t count = options.schemes.size();
  for (uint64_t code = 0; code < std::pow(count, free.size()); ++code) {
    uint64_t rest = code;
    for (size_t f = 0; f < free.size(); ++f, rest /= count) {
      const size_t end = f + 1 < free.size() ? free[f + 1] : modules.size();
      for (size_t m = free[f]; m < end; ++m) plan.assignments[m].scheme = options.schemes[rest % count];
    }
    if (meets(options.budget, plan))
      least = std::min(least,
                       cost_of(scores, plan.assignments, options.own.get<QuadraticOptions>().interactions));
  }
  return least;
}

AllocatorOptions quadratic_options() {
  AllocatorOptions options;
  options.name = "quadratic";
  options.schemes = parse_schemes(kSchemes);
  options.own.get<ExactOptions>().relative_gap = 0;
  return options;
}

std::vector<Budget> budgets() {
  std::vector<Budget> all(5);
  all[0].bits_per_weight = 2.7;
  all[1].bits_per_weight = 2.9;
  all[2].average_code_bits = 2.2;
  all[3].bits_per_weight = 2.85;
  all[3].average_code_bits = 2.3;
  all[4].bits_per_weight = 2.8;
  all[4].average_code_bits = 2.35;
  all[4].bytes = 19000;
  return all;
}

TEST(Quadratic, EqualsExhaustiveSearch) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    Random random(seed);
    AllocatorOptions options = quadratic_options();
    const Scores scores = random_scores(random, 2, 4, options.schemes, seed % 2 == 0);
    const std::vector<AllocationModule> modules = modules_of(scores);
    for (const Budget& budget : budgets())
      for (const bool interactions : {true, false}) {
        options.budget = budget;
        options.own.get<QuadraticOptions>().interactions = interactions;
        const Plan plan = allocate(modules, scores, options);
        const double expected = least_cost(scores, modules, options);
        EXPECT_TRUE(meets(budget, plan));
        EXPECT_NEAR(*plan.cost, expected, 1e-9) << seed << " " << budget.text() << " " << interactions;
        EXPECT_NEAR(cost_of(scores, plan.assignments, interactions), expected, 1e-9);
        EXPECT_NEAR(*plan.gap, 0, 1e-9);
      }
  }
}

TEST(Quadratic, KeepsTies) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Random random(seed + 100);
    AllocatorOptions options = quadratic_options();
    options.ties = Ties::Layer;
    options.budget.bits_per_weight = 2.75;
    const Scores scores = random_scores(random, 5, 3, options.schemes, seed % 2 == 0);
    const std::vector<AllocationModule> modules = modules_of(scores);
    const Plan plan = allocate(modules, scores, options);
    EXPECT_NEAR(*plan.cost, least_cost(scores, modules, options), 1e-9);
    for (size_t m = 1; m < modules.size(); ++m)
      if (modules[m].layer == modules[m - 1].layer) {
        EXPECT_EQ(plan.assignments[m].scheme, plan.assignments[m - 1].scheme);
      }
  }
}

// A pair cost may couple modules of different layers too: what is connected is one block.
TEST(Quadratic, CouplesWhatTheFileCouples) {
  Random random(3);
  AllocatorOptions options = quadratic_options();
  options.budget.bits_per_weight = 2.8;
  Scores scores = random_scores(random, 4, 2, options.schemes, false);
  for (int layer = 1; layer < 4; ++layer)
    for (const Scheme& a : options.schemes)
      for (const Scheme& b : options.schemes)
        scores.pair_costs.push_back({fmt::format("model.layers.{}.m0.weight", layer - 1), a.name(),
                                     fmt::format("model.layers.{}.m1.weight", layer), b.name(),
                                     3 * random.normal()});
  const std::vector<AllocationModule> modules = modules_of(scores);
  const Plan plan = allocate(modules, scores, options);
  EXPECT_NEAR(*plan.cost, least_cost(scores, modules, options), 1e-9);
  options.own.get<QuadraticOptions>().interactions = false;
  EXPECT_GT(cost_of(scores, allocate(modules, scores, options).assignments, true), *plan.cost);
}

TEST(Quadratic, BudgetsBelowTheSmallestAreOneSentenceAndAboveTheLargestGetTheLargest) {
  Random random(4);
  AllocatorOptions options = quadratic_options();
  const Scores scores = random_scores(random, 2, 3, options.schemes, true);
  const std::vector<AllocationModule> modules = modules_of(scores);
  options.budget.bits_per_weight = 2.4;
  EXPECT_NE(error_of([&] { allocate(modules, scores, options); }).find("2.4 bpw"), std::string::npos);
  options.budget.bits_per_weight = 3.4;
  const Plan plan = allocate(modules, scores, options);
  for (const Assignment& assignment : plan.assignments)
    EXPECT_EQ(assignment.scheme.name(), options.schemes.back().name()) << assignment.tensor;
}

TEST(Quadratic, TooManyChoicesAreRefused) {
  AllocatorOptions options = quadratic_options();
  options.budget.bits_per_weight = 2.8;
  Scores scores;
  scores.method = "high-impact";
  for (int m = 0; m < 16; ++m)
    for (const Scheme& scheme : options.schemes)
      scores.costs.push_back({fmt::format("model.layers.0.m{}.weight", m), 64, 64, scheme.name(), 1.0});
  for (int m = 1; m < 16; ++m)
    scores.pair_costs.push_back({scores.costs[0].tensor, options.schemes[0].name(),
                                 fmt::format("model.layers.0.m{}.weight", m), options.schemes[0].name(), -1});
  const std::string message = error_of([&] { allocate(modules_of(scores), scores, options); });
  EXPECT_NE(message.find("model.layers.0.m0.weight and 15 others"), std::string::npos) << message;
  EXPECT_NE(message.find("--interactions off"), std::string::npos) << message;
  options.own.get<QuadraticOptions>().interactions = false;
  EXPECT_NO_THROW(allocate(modules_of(scores), scores, options));
}

CoupledBlock random_block(Random& random, const std::vector<int>& options, size_t uses, int64_t largest_use) {
  CoupledBlock block;
  for (const int count : options) {
    auto& element = block.elements.emplace_back(static_cast<size_t>(count));
    for (ChoiceOption& option : element) {
      option.cost = random.normal();
      for (size_t l = 0; l < uses; ++l) option.use.push_back(static_cast<int64_t>(random.below(largest_use)));
    }
  }
  for (size_t a = 0; a < options.size(); ++a)
    for (size_t b = 0; b < options.size(); ++b) {
      if (a == b || random.below(3) == 0) continue;  // some pairs in both orders, some in none
      PairTable table{a, b, Matrix<double>(options[a], options[b])};
      for (double& cost : table.costs.values) cost = random.normal();
      block.pairs.push_back(std::move(table));
    }
  return block;
}

bool is_beaten(const ChoiceOption& a, const ChoiceOption& b) {
  bool beaten = b.cost <= a.cost;
  for (size_t l = 0; l < a.use.size(); ++l) beaten = beaten && b.use[l] <= a.use[l];
  return beaten;
}

// Every choice is beaten or equalled by one of the front, and no two of the front beat each other.
TEST(CoupledBlockTest, FrontHoldsWhatNothingBeats) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const size_t uses = 1 + seed % 4;
    const std::vector<int> options = seed % 3 == 0   ? std::vector<int>{3, 2, 4, 3, 1, 2}
                                     : seed % 3 == 1 ? std::vector<int>{5}
                                                     : std::vector<int>{9, 9, 9, 9};  // longer than a tail
    const int64_t largest_use = seed % 2 == 0 ? 10 : int64_t{1} << 40;
    const CoupledBlock block = random_block(random, options, uses, largest_use);
    const std::vector<BlockChoice> front = pareto_front(block);
    ASSERT_FALSE(front.empty());
    for (size_t i = 0; i < front.size(); ++i) {
      EXPECT_DOUBLE_EQ(front[i].total.cost, cost_of(block, front[i].chosen));
      for (size_t l = 0; l < uses; ++l) {
        int64_t use = 0;
        for (size_t e = 0; e < options.size(); ++e) use += block.elements[e][front[i].chosen[e]].use[l];
        EXPECT_EQ(front[i].total.use[l], use);
      }
      for (size_t j = 0; j < i; ++j) {
        EXPECT_FALSE(is_beaten(front[i].total, front[j].total));
        EXPECT_FALSE(is_beaten(front[j].total, front[i].total));
      }
    }
    std::vector<int> chosen(options.size(), 0);
    for (uint64_t count = count_choices(block); count-- > 0;) {
      ChoiceOption total{cost_of(block, chosen) + 1e-12, std::vector<int64_t>(uses, 0)};
      for (size_t e = 0; e < options.size(); ++e)
        for (size_t l = 0; l < uses; ++l) total.use[l] += block.elements[e][chosen[e]].use[l];
      EXPECT_TRUE(std::any_of(front.begin(), front.end(),
                              [&](const BlockChoice& choice) { return is_beaten(total, choice.total); }));
      for (size_t e = options.size(); e-- > 0;) {
        if (++chosen[e] < options[e]) break;
        chosen[e] = 0;
      }
    }
  }
}

TEST(CoupledBlockTest, ChoicesAreCountedUpToTheMost) {
  CoupledBlock block;
  block.elements.assign(70, std::vector<ChoiceOption>(2));
  EXPECT_EQ(count_choices(block), kMostBlockChoices + 1);
  EXPECT_THROW(pareto_front(block), Error);
  block.elements.resize(24);
  EXPECT_EQ(count_choices(block), kMostBlockChoices);
}

}  // namespace
}  // namespace strata
