#include "strata/allocation/allocator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "strata/allocation/costs.h"
#include "strata/allocation/exact.h"
#include "strata/core/error.h"
#include "strata/core/random.h"

namespace strata {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Shape {
  const char* module;
  int64_t rows, cols;
};
const std::vector<Shape> kDecoderLayer = {{"self_attn.q_proj", 256, 256}, {"self_attn.k_proj", 128, 256},
                                          {"self_attn.v_proj", 128, 256}, {"self_attn.o_proj", 256, 256},
                                          {"mlp.gate_proj", 768, 256},    {"mlp.up_proj", 768, 256},
                                          {"mlp.down_proj", 256, 768}};

std::vector<AllocationModule> decoder(int layers) {
  std::vector<AllocationModule> modules;
  for (int layer = 0; layer < layers; ++layer)
    for (const Shape& shape : kDecoderLayer)
      modules.push_back({layer, shape.module, fmt::format("model.layers.{}.{}.weight", layer, shape.module),
                         shape.rows, shape.cols});
  return modules;
}

Scores layer_scores(const std::vector<double>& values) {
  Scores scores;
  scores.model = "model";
  scores.method = "nsds";
  for (size_t layer = 0; layer < values.size(); ++layer)
    scores.scores.push_back({static_cast<int>(layer), "", values[layer], 786432});
  scores.modules = decoder(static_cast<int>(values.size()));
  return scores;
}

Scores random_costs(Random& random, const std::vector<AllocationModule>& modules,
                    const std::vector<Scheme>& schemes) {
  Scores scores;
  scores.method = "weight-error";
  for (const AllocationModule& module : modules) {
    const double weight = std::exp(2 * random.normal()) * static_cast<double>(module.params());
    for (const Scheme& scheme : schemes) {
      const double bits = scheme.code_bits_per_weight(module.rows, module.cols);
      scores.costs.push_back({module.tensor, module.rows, module.cols, scheme.name(),
                              weight * std::exp(-1.4 * bits + 0.2 * random.normal())});
    }
  }
  return scores;
}

AllocatorOptions options_of(const std::string& name, const std::string& schemes) {
  AllocatorOptions options;
  options.name = name;
  if (!schemes.empty()) options.schemes = parse_schemes(schemes);
  return options;
}

std::string usage_error(const std::vector<AllocationModule>& modules, const Scores& scores,
                        const AllocatorOptions& options) {
  try {
    allocate(modules, scores, options);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no usage error";
}

std::set<int> layers_with(const Plan& plan, const std::vector<AllocationModule>& modules,
                          const std::string& scheme) {
  std::map<int, int> count;
  for (size_t m = 0; m < modules.size(); ++m)
    if (plan.assignments[m].scheme.name() == scheme) ++count[modules[m].layer];
  std::set<int> layers;
  for (const auto& [layer, n] : count) {
    EXPECT_EQ(n, 7) << "layer " << layer;
    layers.insert(layer);
  }
  return layers;
}

TEST(Rank, GivesAsManyLayersFourBitsAsThePaper) {
  for (int layers : {4, 16, 31})
    for (double budget = 2.0; budget <= 4.0; budget += 0.125) {
      SCOPED_TRACE(fmt::format("{} layers, {} bits", layers, budget));
      Random random(static_cast<uint64_t>(layers));
      std::vector<double> values(static_cast<size_t>(layers));
      for (double& value : values) value = random.uniform();
      const Scores scores = layer_scores(values);
      AllocatorOptions options = options_of("rank", "w2g64,w4g64");
      options.budget.average_code_bits = budget;
      const Plan plan = allocate(scores.modules, scores, options);

      const std::set<int> raised = layers_with(plan, scores.modules, "w4g64");
      EXPECT_EQ(static_cast<int>(raised.size()), static_cast<int>(std::floor(layers * (budget - 2) / 2)));
      for (int above = 0; above < layers; ++above)
        for (int below = 0; below < layers; ++below)
          EXPECT_FALSE(raised.count(above) == 1 && raised.count(below) == 0 && values[above] < values[below]);
      EXPECT_LE(plan.average_code_bits, budget);
    }
}

TEST(Rank, TakesTheSmallestAndTheLargestOfALongerMenuAndTheMeanOfModuleScores) {
  Scores scores;
  scores.method = "zd";
  scores.per_module = true;
  scores.modules = decoder(3);
  const double of_layer[] = {1, 3, 2};
  for (size_t m = 0; m < scores.modules.size(); ++m) {
    const AllocationModule& module = scores.modules[m];
    const double sign = m % 2 == 0 ? 1 : -1;  // one q_proj above the others does not decide
    scores.scores.push_back({module.layer, module.module, of_layer[module.layer] + sign, module.params()});
  }
  AllocatorOptions options = options_of("rank", "w3g64,w2g64,w8g64,w4g64");
  options.budget.average_code_bits = 4.0;
  const Plan plan = allocate(scores.modules, scores, options);
  EXPECT_EQ(layers_with(plan, scores.modules, "w8g64"), std::set<int>({1}));
  EXPECT_EQ(layers_with(plan, scores.modules, "w2g64"), std::set<int>({0, 2}));
}

TEST(Uniform, UsesOneSchemeWhereItFitsExactly) {
  const Scores scores = layer_scores({1, 1, 1, 1});
  AllocatorOptions options = options_of("uniform", "w2g64,w3g64,w4g64");
  options.budget.bits_per_weight = 3.5;
  const Plan plan = allocate(scores.modules, scores, options);
  for (const Assignment& a : plan.assignments) EXPECT_EQ(a.scheme.name(), "w3g64");
  EXPECT_DOUBLE_EQ(plan.bits_per_weight, 3.5);
}

TEST(Uniform, MixesTheNeighboursInLayerOrderUpToOneModuleOfTheBudget) {
  const Scores scores = layer_scores(std::vector<double>(6, 1.0));
  int64_t weights = 0;
  for (const AllocationModule& module : scores.modules) weights += module.params();
  for (double bpw : {2.55, 2.9, 3.1, 3.3, 3.49, 3.51, 4.0, 4.4}) {
    SCOPED_TRACE(bpw);
    AllocatorOptions options = options_of("uniform", "w4g64,w2g64,w3g64");
    options.budget.bytes = static_cast<uint64_t>(bpw * static_cast<double>(weights) / 8);
    const Plan plan = allocate(scores.modules, scores, options);
    const uint64_t largest_step = 768 * 256 / 8;  // one bit more for the largest module
    EXPECT_LE(plan.bytes, *options.budget.bytes);
    EXPECT_GT(plan.bytes + largest_step, *options.budget.bytes);
    EXPECT_GE(plan.assignments.front().scheme.affine.bits, plan.assignments.back().scheme.affine.bits);
    EXPECT_LE(plan.assignments.front().scheme.affine.bits - plan.assignments.back().scheme.affine.bits, 1);
  }
}

// Least cost under one budget by dynamic programming over stored bits in units of 2048, tied classes given.
double least_cost(const std::vector<AllocationModule>& modules, const Scores& scores,
                  const std::vector<Scheme>& schemes, const std::vector<std::vector<size_t>>& classes,
                  double bpw) {
  constexpr int64_t kUnit = 2048;
  std::map<std::pair<std::string, std::string>, double> cost;
  for (const Cost& c : scores.costs) cost[{c.tensor, c.scheme}] = c.cost;
  int64_t weights = 0;
  for (const AllocationModule& module : modules) weights += module.params();
  const auto limit = static_cast<size_t>(std::floor(bpw * static_cast<double>(weights) / kUnit));
  std::vector<double> least(limit + 1, 0.0);
  for (const auto& members : classes) {
    std::vector<double> next(limit + 1, kInfinity);
    for (const Scheme& scheme : schemes) {
      size_t units = 0;
      double sum = 0;
      for (size_t m : members) {
        const auto bits = static_cast<int64_t>(scheme.stored_bits(modules[m].rows, modules[m].cols));
        EXPECT_EQ(bits % kUnit, 0);
        units += static_cast<size_t>(bits / kUnit);
        sum += cost.at({modules[m].tensor, scheme.name()});
      }
      for (size_t used = units; used <= limit; ++used)
        next[used] = std::min(next[used], least[used - units] + sum);
    }
    least = std::move(next);
  }
  return least[limit];
}

std::vector<std::vector<size_t>> classes_of(int layers, const std::vector<std::vector<size_t>>& in_layer) {
  std::vector<std::vector<size_t>> classes;
  for (int layer = 0; layer < layers; ++layer)
    for (std::vector<size_t> members : in_layer) {
      for (size_t& m : members) m += static_cast<size_t>(layer) * 7;
      classes.push_back(members);
    }
  return classes;
}

TEST(Exact, IsTheOptimumOfDynamicProgrammingUnderEveryKindOfTies) {
  const std::vector<Scheme> schemes = parse_schemes("w2g64,w2g32,w3g128,w3g64,w4g64,w5g64,w8g128");
  const std::map<Ties, std::vector<std::vector<size_t>>> kinds = {
      {Ties::None, {{0}, {1}, {2}, {3}, {4}, {5}, {6}}},
      {Ties::Fused, {{0, 1, 2}, {3}, {4, 5}, {6}}},
      {Ties::Layer, {{0, 1, 2, 3, 4, 5, 6}}},
  };
  for (uint64_t seed = 0; seed < 8; ++seed)
    for (const auto& [ties, in_layer] : kinds)
      for (double bpw : {2.7, 3.3, 4.6}) {
        SCOPED_TRACE(fmt::format("seed {} ties {} bpw {}", seed, static_cast<int>(ties), bpw));
        Random random(seed);
        const int layers = 2 + static_cast<int>(seed % 4);
        const auto modules = decoder(layers);
        const Scores scores = random_costs(random, modules, schemes);
        AllocatorOptions options;
        options.ties = ties;
        options.budget.bits_per_weight = bpw;
        options.own.get<ExactOptions>().relative_gap = 0;
        const Plan plan = allocate(modules, scores, options);

        const auto classes = classes_of(layers, in_layer);
        const double optimum = least_cost(modules, scores, schemes, classes, bpw);
        EXPECT_NEAR(*plan.cost, optimum, 1e-9 * optimum);
        EXPECT_EQ(*plan.gap, 0);
        EXPECT_LE(plan.bits_per_weight, bpw);
        for (const auto& members : classes)
          for (size_t m : members)
            EXPECT_EQ(plan.assignments[m].scheme, plan.assignments[members.front()].scheme);
      }
}

TEST(Exact, MeetsTwoBudgetsAtTheOptimumOfBruteForce) {
  const std::vector<Scheme> schemes = parse_schemes("w2g32,w3g128,w4g64,w3g32");
  std::vector<AllocationModule> modules = decoder(1);
  int differs = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Scores scores = random_costs(random, modules, schemes);
    AllocatorOptions options;
    options.own.get<ExactOptions>().relative_gap = 0;
    options.budget.bits_per_weight = 3.2 + 0.05 * static_cast<double>(seed);
    options.budget.average_code_bits = 2.6 + 0.03 * static_cast<double>(seed);

    double best = kInfinity, best_by_bits = kInfinity;
    for (int code = 0; code < 1 << 14; ++code) {
      double bits = 0, codes = 0, weights = 0, cost = 0;
      for (size_t m = 0; m < 7; ++m) {
        const size_t s = static_cast<size_t>(code >> (2 * m)) & 3;
        const double size = static_cast<double>(modules[m].params());
        bits += static_cast<double>(schemes[s].stored_bits(modules[m].rows, modules[m].cols));
        codes += schemes[s].affine.bits * size;
        weights += size;
        cost += scores.costs[m * 4 + s].cost;
      }
      if (bits > *options.budget.bits_per_weight * weights) continue;
      best_by_bits = std::min(best_by_bits, cost);
      if (codes <= *options.budget.average_code_bits * weights) best = std::min(best, cost);
    }
    if (best == kInfinity) {
      EXPECT_NE(usage_error(modules, scores, options), "no usage error");
      continue;
    }
    EXPECT_NEAR(*allocate(modules, scores, options).cost, best, 1e-9 * best);
    if (best_by_bits < best) ++differs;
  }
  EXPECT_GT(differs, 3);  // the second budget binds
}

// Bytes count embedding and head, bits a weight do not; they are tied to nothing.
TEST(Exact, ChoosesEmbeddingAndHeadAtTheOptimumOfBruteForce) {
  Random random(11);
  const std::vector<Scheme> schemes = parse_schemes("w2g64,w4g64,w8g64");
  std::vector<AllocationModule> layers = decoder(1);
  layers.resize(5);
  const std::vector<AllocationModule> boundaries = {{-1, "embedding", "embed", 512, 256},
                                                    {-1, "head", "head", 512, 256}};
  std::vector<AllocationModule> all = layers;
  all.insert(all.end(), boundaries.begin(), boundaries.end());
  for (int trial = 0; trial < 20; ++trial) {
    const Scores scores = random_costs(random, all, schemes);
    AllocatorOptions options = options_of("exact", "w2g64,w4g64,w8g64");
    options.boundaries = boundaries;
    options.budget.bytes = 260000;
    options.budget.bits_per_weight = 5;
    options.ties = trial % 2 == 0 ? Ties::None : Ties::Layer;
    double best = kInfinity;
    for (int code = 0; code < 2187; ++code) {  // 3^7
      double cost = 0, layer_bits = 0, weights = 0;
      uint64_t bytes = 0;
      std::set<int> of_layer;
      for (size_t m = 0, rest = static_cast<size_t>(code); m < 7; ++m, rest /= 3) {
        const Scheme& scheme = schemes[rest % 3];
        const uint64_t bits = scheme.stored_bits(all[m].rows, all[m].cols);
        cost += scores.costs[3 * m + rest % 3].cost;
        bytes += bits / 8;
        if (m >= 5) continue;
        layer_bits += static_cast<double>(bits);
        weights += static_cast<double>(all[m].params());
        of_layer.insert(static_cast<int>(rest % 3));
      }
      if (bytes > 260000 || layer_bits > 5 * weights) continue;
      if (options.ties == Ties::Layer && of_layer.size() > 1) continue;
      best = std::min(best, cost);
    }
    const Plan plan = allocate(layers, scores, options);
    EXPECT_NEAR(*plan.cost, best, 1e-6 * best);
    ASSERT_EQ(plan.assignments.size(), 5u);
    ASSERT_TRUE(plan.embedding && plan.head);
    EXPECT_EQ(*plan.head_bits, plan.head->stored_bits(512, 256) / (512 * 256.0));
    EXPECT_LE(plan.bytes + plan.embedding->stored_bits(512, 256) / 8 + plan.head->stored_bits(512, 256) / 8,
              260000u);
  }
}

TEST(Exact, LeavesNothingUnusedThatCostsNoMore) {
  const auto modules = decoder(2);
  const std::vector<Scheme> schemes = parse_schemes("w2g64,w4g64");
  Scores scores;
  scores.method = "zero";
  for (const AllocationModule& module : modules)
    for (const Scheme& scheme : schemes)
      scores.costs.push_back({module.tensor, module.rows, module.cols, scheme.name(), 0});
  AllocatorOptions options;
  options.budget.bits_per_weight = 3.5;
  const Plan plan = allocate(modules, scores, options);
  EXPECT_LE(plan.bits_per_weight, 3.5);
  EXPECT_GT(plan.bits_per_weight, 3.4);
  EXPECT_EQ(*plan.gap, 0);
}

TEST(Exact, WeighsMeasuredErrorsWithScoresWhenThereAreNoCosts) {
  const Scores scores = layer_scores({1, 50, 1, 1});
  AllocatorOptions options = options_of("exact", "w2g64,w3g64,w4g64");
  options.budget.bits_per_weight = 3.5;
  const Plan plan = allocate(scores.modules, scores, options);
  std::map<int, double> bits;
  for (size_t m = 0; m < scores.modules.size(); ++m)
    bits[scores.modules[m].layer] += plan.assignments[m].scheme.affine.bits / 7.0;
  EXPECT_GT(bits[1], bits[0] + 0.5);
  EXPECT_GT(*plan.cost, 0);
}

TEST(Costs, AreSharesOfTheLayersScoreTimesTheSchemesRelativeError) {
  const Scores scores = layer_scores({2, 6});
  const CostTable costs(scores.modules, scores);
  const Scheme scheme = parse_scheme("w4g64");
  double first = 0, second = 0;
  for (size_t m = 0; m < 7; ++m) first += *costs.cost(m, scheme);
  for (size_t m = 7; m < 14; ++m) second += *costs.cost(m, scheme);
  EXPECT_NEAR(second / first, 3, 1e-9);
  EXPECT_NEAR(*costs.cost(4, scheme) / *costs.cost(1, scheme), 6,
              1e-9);  // gate against k: six times the weights
  // Normal weights in groups of 64 span about 4.7 deviations, in 15 steps of width h: error h^2 / 12.
  EXPECT_NEAR(first / 2, std::pow(4.7 / 15, 2) / 12, 0.1 * std::pow(4.7 / 15, 2) / 12);
  EXPECT_LT(*costs.cost(0, parse_scheme("Q6_K")), *costs.cost(0, parse_scheme("Q4_K")));
}

TEST(Costs, WeightsArePositiveAndInTheOrderOfTheScores) {
  EXPECT_EQ(positive_weights({3, 1, 2}), std::vector<double>({3, 1, 2}));
  EXPECT_EQ(positive_weights({0, 0}), std::vector<double>({1, 1}));
  const std::vector<double> shifted = positive_weights({-5, 0, 5});
  EXPECT_EQ(shifted, std::vector<double>({1, 6, 11}));
}

TEST(Budget, BelowTheSmallestOrAboveTheLargestNamesWhatIsPossible) {
  const Scores scores = layer_scores({1, 2});
  for (const std::string name : {"exact", "uniform", "rank"}) {
    SCOPED_TRACE(name);
    AllocatorOptions options = options_of(name, "w3g64,w4g64");
    options.budget.bits_per_weight = 3;
    EXPECT_EQ(
        usage_error(scores.modules, scores, options),
        "the budget of 3 bpw is below the smallest possible with the schemes w3g64, w4g64, 3.5 bpw; raise it "
        "or add smaller schemes");
    options.budget.bits_per_weight = 3.5;
    EXPECT_EQ(allocate(scores.modules, scores, options).bits_per_weight, 3.5);
    options.budget.bits_per_weight = 4.5;
    EXPECT_EQ(allocate(scores.modules, scores, options).bits_per_weight, 4.5);
    options.budget.bits_per_weight = 4.6;
    const Plan all = allocate(scores.modules, scores, options);
    EXPECT_EQ(all.bits_per_weight, 4.5);
    for (const Assignment& matrix : all.assignments) EXPECT_EQ(matrix.scheme.name(), "w4g64");
    options.budget = {};
    options.budget.bytes = 1000;
    EXPECT_EQ(
        usage_error(scores.modules, scores, options),
        "the budget of 1000 B is below the smallest possible with the schemes w3g64, w4g64, 688128 bytes "
        "(672.00 KiB); raise it or add smaller schemes");
    options.budget.bytes_beside = 4096;
    EXPECT_EQ(
        usage_error(scores.modules, scores, options),
        "the budget of 4.98 KiB is below the smallest possible with the schemes w3g64, w4g64, 692224 bytes "
        "(676.00 KiB); raise it or add smaller schemes");
    options.budget = {};
    options.budget.average_code_bits = std::nan("");
    EXPECT_EQ(usage_error(scores.modules, scores, options),
              "the budget of nan average code bits is not a positive number");
    options.budget = {};
    EXPECT_NE(usage_error(scores.modules, scores, options).find("needs a budget"), std::string::npos);
  }
}

TEST(Budget, AboveTheLargestInOneLimitIsFineWhenAnotherBinds) {
  const Scores scores = layer_scores({1, 2});
  AllocatorOptions options = options_of("exact", "w3g64,w4g64");
  options.budget.bits_per_weight = 4;
  options.budget.bytes = uint64_t{1} << 40;
  EXPECT_LE(allocate(scores.modules, scores, options).bits_per_weight, 4);
}

TEST(Allocate, SaysWhichCostIsMissing) {
  const auto modules = decoder(1);
  Random random(1);
  Scores scores = random_costs(random, modules, parse_schemes("w2g64,w4g64"));
  AllocatorOptions options = options_of("exact", "w2g64,w3g64");
  options.budget.bits_per_weight = 3;
  try {
    allocate(modules, scores, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "the scores of weight-error have no cost for model.layers.0.self_attn.q_proj.weight in w3g64; they "
        "have w2g64, w4g64: choose among these schemes or score again");
  }
}

TEST(Allocate, NamesTheAllocatorsThereAre) {
  const Scores scores = layer_scores({1, 2});
  EXPECT_EQ(usage_error(scores.modules, scores, options_of("best", "w2g64")),
            "there is no allocator \"best\"; there are exact, quadratic, rank, boost, uniform");
}

TEST(Allocate, NeedsAMenuWhenTheFileHasNoCosts) {
  const Scores scores = layer_scores({1, 2});
  AllocatorOptions options;
  options.budget.bits_per_weight = 3;
  EXPECT_NE(usage_error(scores.modules, scores, options).find("--schemes"), std::string::npos);
}

}  // namespace
}  // namespace strata
