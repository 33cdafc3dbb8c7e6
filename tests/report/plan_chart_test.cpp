#include "strata/report/plan_chart.h"

#include <gtest/gtest.h>

namespace strata {
namespace {

TEST(PlanSummary, SaysWhatWasProven) {
  EXPECT_EQ(optimality(0), "the optimum, proven");
  EXPECT_EQ(optimality(1.2e-4), "within 0.012 % of the optimum, proven");
  Plan plan;
  plan.method = "nsds";
  plan.allocator = "exact";
  EXPECT_NE(plan_summary(plan).find("nsds, allocator exact\n"), std::string::npos);
  plan.gap = 0;
  EXPECT_NE(plan_summary(plan).find("allocator exact (the optimum, proven)\n"), std::string::npos);
}

}  // namespace
}  // namespace strata
