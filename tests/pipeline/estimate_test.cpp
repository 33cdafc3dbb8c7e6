#include "strata/pipeline/estimate.h"

#include <gtest/gtest.h>

#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class Estimates : public testing::Test {
 protected:
  Estimates() {
    write_random_model(directory_ / "model", small_config("llama"), DType::F32);
    model_ = open_model(directory_ / "model");
    work_.schemes = 6;
    work_.kl_tokens = 1024;
    work_.sign_steps = 200;
    work_.sign_tokens = 4096;
    work_.tune_steps = 100;
    work_.tune_tokens = 2048;
  }

  Estimate of(const std::string& effort) const {
    return estimate(find_effort(effort, true), model_, rates_, work_);
  }

  TemporaryDirectory directory_;
  Model model_;
  Rates rates_ = {1e9, 1e6};
  WorkAhead work_;
};

TEST_F(Estimates, GreaterEffortsCostMore) {
  EXPECT_GT(of("quick").seconds, 0);
  EXPECT_GT(of("standard").seconds, of("quick").seconds);
  EXPECT_GT(of("best").seconds, of("standard").seconds);
  EXPECT_GT(of("standard").bytes, of("quick").bytes);
  EXPECT_GE(of("best").bytes, of("standard").bytes);
}

// A device twice as fast takes half the time; quantizing weights alone needs no products.
TEST_F(Estimates, FollowTheRates) {
  const double quick = of("quick").seconds, best = of("best").seconds;
  rates_.products *= 2;
  EXPECT_DOUBLE_EQ(of("quick").seconds, quick);
  EXPECT_LT(of("best").seconds, best);
  rates_.weights *= 2;
  EXPECT_DOUBLE_EQ(of("quick").seconds, quick / 2);
  EXPECT_NEAR(of("best").seconds, best / 2, 1e-9 * best);
}

TEST_F(Estimates, OwnTextAndMoreTokensCostMore) {
  const double given = of("standard").seconds;
  work_.own_text = true;
  EXPECT_GT(of("standard").seconds, given);
  work_.own_text = false;
  work_.tokens = 4 * find_effort("standard", true).tokens;
  EXPECT_GT(of("standard").seconds, given);
}

TEST_F(Estimates, MeasuringLossesOnATextCostsTheSameForAll) {
  const double quick = of("quick").seconds, best = of("best").seconds;
  work_.evaluated = 4096;
  const double more = of("quick").seconds - quick;
  EXPECT_GT(more, 0);
  EXPECT_NEAR(of("best").seconds - best, more, 1e-9 * best);
}

TEST_F(Estimates, MeasuredRatesArePositive) {
  const Rates rates = measure_rates(model_, parse_scheme("w4g32"), at::kCPU);
  EXPECT_GT(rates.products, 1e6);
  EXPECT_GT(rates.weights, 1e3);
}

TEST(DescribeEstimates, NamesTheChosenOneFirst) {
  const std::vector<Estimate> estimates = {
      {"quick", 1.64, 200 << 20}, {"standard", 121, 512 << 20}, {"best", 7000, uint64_t{3} << 30}};
  EXPECT_EQ(describe(estimates, "standard"),
            "standard takes about 2 min and 0.5 GiB (quick 2 s and 0.2 GiB, best 1.9 h and 3.0 GiB)");
}

}  // namespace
}  // namespace strata
