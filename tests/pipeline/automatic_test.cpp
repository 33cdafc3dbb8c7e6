#include "strata/pipeline/automatic.h"

#include <gtest/gtest.h>

#include "strata/pipeline/quantize.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

TEST(ResolveAutomatic, MeasuresModelsThatRunAndTrustsErrorsAloneElsewhere) {
  const MethodChoice measured = resolve_automatic(parse_method("auto"), find_effort("auto", true));
  EXPECT_EQ(measured.score_method, "kl");
  EXPECT_EQ(measured.label, "auto");
  const MethodChoice data_free = resolve_automatic(parse_method("auto"), find_effort("auto", false));
  EXPECT_EQ(data_free.score_method, "uniform");
  EXPECT_EQ(data_free.allocator, "exact");
  EXPECT_EQ(resolve_automatic(parse_method("nsds"), find_effort("best", false)).score_method, "nsds");

  EXPECT_FALSE(is_checked(data_free));
  EXPECT_TRUE(is_checked(measured));
  EXPECT_FALSE(is_checked(parse_method("kl")));
}

TEST(ParseMethod, TakesABaseForTheBoostMethodsAlone) {
  const MethodChoice choice = parse_method("kurtboost@4.25");
  AllocatorOptions options;
  options.budget.bits_per_weight = 3;
  options = allocator_of(choice, options);
  EXPECT_EQ(choice.label, "kurtboost@4.25");
  EXPECT_EQ(options.name, "boost");
  EXPECT_DOUBLE_EQ(options.own.get<BoostOptions>().base, 4.25);
  EXPECT_FALSE(options.own.get<BoostOptions>().rebase);
  EXPECT_TRUE(options.budget.empty());
  EXPECT_EQ(options.schemes.size(), 12u);
  for (const char* bad :
       {"nsds@3.13", "mxq@3.13", "kurtboost@", "kurtboost@x", "kurtboost@-1", "kurtboost@3.13@4"})
    EXPECT_NE(error_of([&] { parse_method(bad); }).find(bad), std::string::npos) << bad;
}

TEST(PartCalibration, HoldsAQuarterBack) {
  const at::Tensor ids = random_ids(9, 16);
  const PartedCalibration parted = part_calibration(make_calibration(ids, "test"));
  EXPECT_EQ(parted.checking->blocks(), 2);
  EXPECT_TRUE(at::equal(at::cat({parted.scoring->ids, parted.checking->ids}), ids));
  EXPECT_EQ(part_calibration(make_calibration(random_ids(2, 16), "test")).checking->blocks(), 1);
  EXPECT_NE(
      error_of([] { part_calibration(make_calibration(random_ids(1, 16), "test")); }).find("--calib-tokens"),
      std::string::npos);
}

class CheckAgainstUniform : public testing::Test {
 protected:
  void SetUp() override {
    write_random_model(directory_ / "model", small_config("llama"), DType::F32);
    model_ = open_model(directory_ / "model");
    allocator_.schemes = parse_schemes("w2g32,w4g32");
    allocator_.budget.bits_per_weight = 4;
    for (size_t i = 0; i < model_.modules.size();
         ++i) {  // the last modules are the costly ones: not uniform's order
      const Module& module = model_.modules[i];
      for (const Scheme& scheme : allocator_.schemes)
        scores_.costs.push_back({module.tensor, module.rows, module.cols, scheme.name(),
                                 static_cast<double>(i + 1) * (scheme.affine.bits == 2 ? 10 : 1)});
    }
    scores_.method = "kl";
    plan_ = make_plan(model_, scores_, allocator_);
  }

  // The plan that is kept when `first` is the loss of the given plan and `second` of any other.
  CheckedPlan check(double first, double second) const {
    return check_against_uniform(model_, plan_, scores_, allocator_, [&](const Plan& candidate) {
      return schemes(candidate) == schemes(plan_) ? first : second;
    });
  }

  static std::vector<std::string> schemes(const Plan& plan) {
    std::vector<std::string> names;
    for (const Assignment& assignment : plan.assignments) names.push_back(assignment.scheme.name());
    return names;
  }

  TemporaryDirectory directory_;
  Model model_;
  AllocatorOptions allocator_;
  Scores scores_;
  Plan plan_;
};

TEST_F(CheckAgainstUniform, KeepsThePlanThatLosesLess) {
  const CheckedPlan kept = check(0.1, 0.2), replaced = check(0.2, 0.1);
  EXPECT_EQ(schemes(kept.plan), schemes(plan_));
  EXPECT_NE(kept.note.find("kept"), std::string::npos);
  EXPECT_NE(schemes(replaced.plan), schemes(plan_));
  EXPECT_EQ(replaced.plan.allocator, "uniform");
  EXPECT_LE(replaced.plan.bytes, plan_.bytes);
  EXPECT_NE(replaced.note.find("instead"), std::string::npos);
}

TEST(AutomaticQuantizer, IsGptqWithCalibrationAndHqqWithout) {
  EXPECT_EQ(resolve_automatic(QuantizerChoice::automatic(), "gptq").name, "gptq");
  EXPECT_EQ(resolve_automatic(QuantizerChoice{}, "gptq").name, "hqq");
}

}  // namespace
}  // namespace strata
