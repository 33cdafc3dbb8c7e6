#include "strata/pipeline/methods.h"

#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/error.h"
#include "strata/pipeline/quantize.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

BoostOptions boost_of(const MethodChoice& choice, const AllocatorOptions& options) {
  return allocator_of(choice, options).own.get<BoostOptions>();
}

TEST(ParseMethod, KnowsThePapersMethodsAsTheyAre) {
  const MethodChoice sensiboost = parse_method("sensiboost"), kurtboost = parse_method("kurtboost"),
                     mxq = parse_method("mxq");
  EXPECT_EQ(sensiboost.allocator, "boost");
  EXPECT_EQ(kurtboost.score_method, "kurtosis");
  EXPECT_EQ(kurtboost.allocator, "boost");
  EXPECT_EQ(mxq.allocator, "exact");
  for (const MethodChoice& choice : {sensiboost, kurtboost, mxq}) EXPECT_EQ(choice.schemes, "paper-ladder");
  AllocatorOptions options;
  EXPECT_EQ(boost_of(sensiboost, options).differences, Differences::Divide);
  EXPECT_TRUE(boost_of(sensiboost, options).rebase);
  options.own.get<BoostOptions>().differences = Differences::Divide;
  EXPECT_EQ(boost_of(kurtboost, options).differences, Differences::Subtract);
  EXPECT_FALSE(boost_of(mxq, options).rebase);

  const MethodChoice exact = parse_method("sensiboost:exact");
  EXPECT_EQ(exact.allocator, "exact");
  EXPECT_FALSE(exact.rebase);
  EXPECT_TRUE(exact.schemes.empty());
}

class CompleteMethods : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    Json config = small_config("llama");
    config["num_hidden_layers"] = 6;
    config["intermediate_size"] = 128;
    write_random_model(directory_ / "model", config, DType::F32);
  }

  QuantizeResult run(std::optional<double> bits_per_weight) const {
    QuantizeRequest request;
    request.model = directory_ / "model";
    request.output = directory_ / "out";
    request.method = GetParam();
    request.allocator.budget.bits_per_weight = bits_per_weight;
    request.workbench.calibration.source = "self";
    request.workbench.calibration.tokens = 64;
    request.workbench.calibration.window = 16;
    return quantize(request);
  }

  TemporaryDirectory directory_;
};

TEST_P(CompleteMethods, MeetABudgetWithThePapersLadder) {
  const QuantizeResult result = run(3.6);
  EXPECT_LE(result.plan.bits_per_weight, 3.6);
  EXPECT_GT(result.plan.bits_per_weight, 3.3);
  for (const Assignment& assignment : result.plan.assignments) {
    EXPECT_EQ(assignment.scheme.affine.axis, 0);
    EXPECT_EQ(assignment.scheme.affine.scales, ScaleStorage::SecondLevel);
  }
  EXPECT_NO_THROW(open_model(directory_ / "out"));
}

INSTANTIATE_TEST_SUITE_P(Papers, CompleteMethods, testing::Values("sensiboost", "kurtboost", "mxq"));

}  // namespace
}  // namespace strata
