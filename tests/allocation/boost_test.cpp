#include "strata/allocation/boost.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "strata/core/error.h"

namespace strata {
namespace {

const std::string kData = STRATA_SOURCE_DIR "/tests/data/boost/";

// Scores of every role over the layers, from the published table.
std::map<std::string, std::vector<double>> published_scores(int column) {
  std::ifstream file(kData + "llama-2-7b.csv");
  std::map<std::string, std::vector<double>> roles;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string cell, cells[5];
    for (std::string& c : cells) std::getline(fields, c, ',');
    EXPECT_EQ(std::stoul(cells[0]), roles[cells[1]].size());
    roles[cells[1]].push_back(std::stod(cells[column]));
  }
  EXPECT_EQ(roles.size(), 7u);
  return roles;
}

using Selection = std::map<std::string, std::vector<int>>;

const Selection kSensiBoost = {{"self_attn.q_proj", {31, 2}}, {"self_attn.k_proj", {31, 2}},
                               {"self_attn.v_proj", {31, 2}}, {"self_attn.o_proj", {1}},
                               {"mlp.gate_proj", {1, 2, 3}},  {"mlp.up_proj", {1, 2, 3}},
                               {"mlp.down_proj", {1, 30}}};
const Selection kKurtBoost = {{"self_attn.q_proj", {1, 2}},   {"self_attn.k_proj", {1, 2}},
                              {"self_attn.v_proj", {2, 1}},   {"self_attn.o_proj", {31, 2, 1}},
                              {"mlp.gate_proj", {30, 31, 2}}, {"mlp.up_proj", {30, 31, 2}},
                              {"mlp.down_proj", {2, 1, 31}}};

TEST(Boost, SelectsThePublishedLayersInOrderOfZ) {
  for (const auto& [role, scores] : published_scores(4))
    EXPECT_EQ(outlying_layers(scores, Differences::Divide, 0), kSensiBoost.at(role)) << role;
  for (const auto& [role, scores] : published_scores(3)) {
    EXPECT_EQ(outlying_layers(scores, Differences::Subtract, 0), kKurtBoost.at(role)) << role;
    std::vector<int> first_two = kKurtBoost.at(role);
    first_two.resize(2);
    EXPECT_EQ(outlying_layers(scores, Differences::Subtract, 2), first_two) << role;
  }
}

TEST(Boost, FindsNoOutliersInFewOrEvenScores) {
  EXPECT_TRUE(outlying_layers({}, Differences::Subtract, 0).empty());
  EXPECT_TRUE(outlying_layers({1, 5}, Differences::Subtract, 0).empty());
  EXPECT_TRUE(outlying_layers(std::vector<double>(40, 2.0), Differences::Subtract, 0).empty());
  EXPECT_TRUE(outlying_layers(std::vector<double>(40, 2.0), Differences::Divide, 0).empty());
}

// Modules that are not on the base rung, by role.
std::map<std::string, std::vector<int>> climbers(const Plan& plan, const std::string& base,
                                                 const std::string& raised) {
  std::map<std::string, std::vector<int>> result;
  for (const Assignment& a : plan.assignments) {
    if (a.scheme.name() == base) continue;
    EXPECT_EQ(a.scheme.name(), raised) << a.tensor;
    std::istringstream parts(a.tensor);
    std::string part, layer, block, projection;
    for (std::string* p : {&part, &part, &layer, &block, &projection}) std::getline(parts, *p, '.');
    result[block + "." + projection].push_back(std::stoi(layer));
  }
  return result;
}

std::vector<Scheme> ladder() {
  return parse_schemes("ladder");
}

std::string rung(int bits, int group_size) {
  for (const Scheme& scheme : ladder())
    if (scheme.affine.bits == bits && scheme.affine.group_size == group_size) return scheme.name();
  return "none";
}

Plan boost(const std::string& file, const AllocatorOptions& options) {
  const Scores scores = read_scores(kData + file);
  return allocate(modules_of(scores), scores, options);
}

TEST(Boost, PlansOfThePublishedFilesRaiseThePublishedModules) {
  AllocatorOptions options;
  options.name = "boost";
  options.own.get<BoostOptions>().top = 0;
  options.own.get<BoostOptions>().base = 3.13;
  options.own.get<BoostOptions>().stop = 2;
  const auto sorted = [](Selection selection) {
    for (auto& [role, layers] : selection) std::sort(layers.begin(), layers.end());
    return selection;
  };
  const Plan kurt = boost("llama-2-7b-kurtosis.scores.json", options);
  EXPECT_EQ(climbers(kurt, rung(3, 128), rung(3, 32)), sorted(kKurtBoost));

  options.own.get<BoostOptions>().differences = Differences::Divide;
  options.own.get<BoostOptions>().base = 4.25;
  options.own.get<BoostOptions>().stop = 3;
  const Plan sensi = boost("llama-2-7b-sensitivity.scores.json", options);
  EXPECT_EQ(climbers(sensi, rung(4, 64), rung(8, 64)), sorted(kSensiBoost));
  EXPECT_EQ(sensi.budget, "none");

  double bits = 0, weights = 0;
  for (const Assignment& a : sensi.assignments) {
    const double size = static_cast<double>(a.rows * a.cols);
    bits += size * (a.scheme.name() == rung(4, 64) ? 4.2539 : 8.2539);
    weights += size;
  }
  EXPECT_NEAR(sensi.bits_per_weight, bits / weights, 1e-4);
}

TEST(Boost, ClimbsAtMostToTheTop) {
  AllocatorOptions options;
  options.name = "boost";
  options.own.get<BoostOptions>().base = 8.25;
  options.own.get<BoostOptions>().stop = 3;
  const Plan plan = boost("llama-2-7b-kurtosis.scores.json", options);
  EXPECT_FALSE(climbers(plan, rung(8, 64), rung(8, 32)).empty());
}

TEST(Boost, RebaseMeetsTheBudgetWithinOneModule) {
  for (double bpw : {2.2, 2.5, 3.0, 3.127, 3.19, 3.5, 4.2}) {
    SCOPED_TRACE(bpw);
    AllocatorOptions options;
    options.name = "boost";
    options.own.get<BoostOptions>().rebase = true;
    options.budget.bits_per_weight = bpw;
    const Plan plan = boost("llama-2-7b-kurtosis.scores.json", options);
    EXPECT_LE(plan.bits_per_weight, bpw);
    EXPECT_GT(plan.bits_per_weight, bpw - 0.01);  // the largest step of one of the 224 modules
    // Layer 1's boosted value projection is two rungs above layer 3's, which is not an outlier.
    const auto place = [&](int layer) {
      const std::string name = plan.assignments[layer * 7 + 2].scheme.name();
      const auto rungs = ladder();
      for (size_t r = 0; r < rungs.size(); ++r)
        if (rungs[r].name() == name) return rungs[r].affine.bits * 1000 - rungs[r].affine.group_size;
      return 0;
    };
    EXPECT_GT(place(1), place(3));
  }
}

std::string allocation_error(const std::string& file, const AllocatorOptions& options) {
  try {
    boost(file, options);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Boost, SaysWhenBaseOrBudgetCannotBe) {
  AllocatorOptions options;
  options.name = "boost";
  options.own.get<BoostOptions>().base = 3.75;
  EXPECT_EQ(
      allocation_error("llama-2-7b-kurtosis.scores.json", options),
      "the base of 3.75 bpw is no rung of the ladder, which has 2.13, 2.25, 2.51, 3.13, 3.25, 3.51, 4.13, "
      "4.25, 4.51, 8.13, 8.25, 8.51");
  options.own.get<BoostOptions>().base = 3.13;
  options.budget.bits_per_weight = 3.13;
  const std::string above = allocation_error("llama-2-7b-kurtosis.scores.json", options);
  EXPECT_EQ(above.rfind("boosting 14 modules from 3.13 bpw takes 3.1", 0), 0u) << above;
  options.own.get<BoostOptions>().rebase = true;
  options.budget.bits_per_weight = 2.13;
  const std::string below = allocation_error("llama-2-7b-kurtosis.scores.json", options);
  EXPECT_EQ(below.rfind("the budget of 2.13 bpw is below the smallest possible with the schemes ", 0), 0u)
      << below;
  // What it names is enough.
  const size_t at = below.find("after boosting, ") + 16;
  options.budget.bits_per_weight = std::stod(below.substr(at));
  EXPECT_LE(boost("llama-2-7b-kurtosis.scores.json", options).bits_per_weight,
            *options.budget.bits_per_weight);
  options.budget.bits_per_weight = 8.6;
  EXPECT_LE(boost("llama-2-7b-kurtosis.scores.json", options).bits_per_weight, 8.51);  // the top rung
}

TEST(Boost, NeedsScoresOfModules) {
  Scores scores;
  scores.method = "nsds";
  for (int layer = 0; layer < 8; ++layer) scores.scores.push_back({layer, "", 1.0 + layer, 4096});
  AllocatorOptions options;
  options.name = "boost";
  EXPECT_THROW(allocate(modules_of(scores), scores, options), Error);
}

}  // namespace
}  // namespace strata
