#include "strata/pipeline/reachable_costs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "strata/pipeline/workbench.h"
#include "strata/sensitivity/kl.h"
#include "tests/support/random_ids.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

TEST(CorrectedPredictions, FollowTheRatiosOfWhatWasMeasured) {
  const std::vector<double> predicted = {1, 10, 100, 1000};
  const std::vector<double> unknown(4, kNone);
  EXPECT_EQ(corrected_predictions(predicted, unknown, 3), (std::vector<double>{3, 30, 300, 3000}));
  // One ratio, 2, for all.
  EXPECT_EQ(corrected_predictions(predicted, {kNone, 20, kNone, kNone}, 3),
            (std::vector<double>{2, 20, 200, 2000}));
  // 1 at 1 and 4 at 100: 2 half way between in logarithms, 4 beyond.
  const std::vector<double> between = corrected_predictions(predicted, {1, kNone, 400, kNone}, 3);
  EXPECT_EQ(between[0], 1);
  EXPECT_NEAR(between[1], 20, 1e-12);
  EXPECT_EQ(between[2], 400);
  EXPECT_NEAR(between[3], 4000, 1e-9);
}

class ReachableCostsOfRandomModel : public testing::Test {
 protected:
  ReachableCostsOfRandomModel() {
    Json config = small_config("llama");
    config["num_hidden_layers"] = 3;
    write_random_model(directory_ / "model", config, DType::F32);
    model_.emplace(open_model(directory_ / "model"));
    options_.schemes = parse_schemes("w2g32,w3g32,w4g32,w5g32,w6g32,w8g32");
    options_.methods.get<KlOptions>().tokens = 64;
    evidence_.calibration =
        std::make_shared<const Calibration>(make_calibration(random_ids(4, 16), "random ids"));
    allocator_.budget.bits_per_weight = 4;
    allocator_.schemes = options_.schemes;
  }

  static std::map<std::string, double> table(const Scores& scores) {
    std::map<std::string, double> costs;
    for (const Cost& cost : scores.costs) costs[cost.tensor + " " + cost.scheme] = cost.cost;
    return costs;
  }

  TemporaryDirectory directory_;
  std::optional<Model> model_;
  SensitivityOptions options_;
  Evidence evidence_;
  AllocatorOptions allocator_;
};

TEST_F(ReachableCostsOfRandomModel, WhatAPlanChoosesIsMeasured) {
  const Scores full = score(*model_, "kl", options_, evidence_);
  const Scores reachable = ReachableCosts(*model_, options_, evidence_).for_plan(allocator_);
  const auto exact = table(full), known = table(reachable);
  ASSERT_EQ(exact.size(), known.size());
  size_t measured = 0;
  for (const auto& [pair, cost] : exact) measured += known.at(pair) == cost;
  EXPECT_EQ(measured, reachable.details["measured_costs"].get<size_t>());
  EXPECT_LT(measured, exact.size() * 2 / 3);
  for (const Assignment& choice : make_plan(*model_, reachable, allocator_).assignments) {
    const std::string pair = choice.tensor + " " + choice.scheme.name();
    EXPECT_EQ(known.at(pair), exact.at(pair)) << pair;
  }
  // As good as the plan of the whole table, but for a little.
  const Plan plan = make_plan(*model_, reachable, allocator_), best = make_plan(*model_, full, allocator_);
  EXPECT_LT(*plan.cost, *best.cost * 1.02);
}

class Halving : public SchemeTrials {
 public:
  std::string identity() const override { return "halving"; }
  void quantize(const std::string&, const Scheme&, MatrixView<float> weights) override {
    for (int64_t i = 0; i < weights.rows * weights.cols; ++i) weights.data[i] /= 2;
  }
  void unload() override { ++unloaded; }
  int unloaded = 0;
};

TEST_F(ReachableCostsOfRandomModel, NameTheWeightsThatWereMeasuredAndGiveThemBack) {
  EXPECT_EQ(ReachableCosts(*model_, options_, evidence_).for_plan(allocator_).details["quantizer"], "rtn");
  const auto halving = std::make_shared<Halving>();
  options_.trials = halving;
  EXPECT_EQ(ReachableCosts(*model_, options_, evidence_).for_plan(allocator_).details["quantizer"],
            "halving");
  EXPECT_EQ(halving->unloaded, 1);
}

TEST_F(ReachableCostsOfRandomModel, DoNotDependOnWhatWasMeasuredBefore) {
  const Scores fresh = ReachableCosts(*model_, options_, evidence_).for_plan(allocator_);
  ReachableCosts again(*model_, options_, evidence_);
  AllocatorOptions other = allocator_;
  other.budget.bits_per_weight = 3;
  again.for_plan(other);
  EXPECT_EQ(to_json(again.for_plan(allocator_)), to_json(fresh));
  options_.cache = directory_ / "cache";
  score(*model_, "kl", options_, evidence_);
  EXPECT_EQ(to_json(ReachableCosts(*model_, options_, evidence_).for_plan(allocator_)), to_json(fresh));
}

}  // namespace
}  // namespace strata
