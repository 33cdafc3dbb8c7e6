#include "strata/pipeline/workbench.h"

#include <gtest/gtest.h>

#include "strata/pipeline/apply_schemes.h"
#include "strata/sensitivity/change_losses.h"
#include "strata/sensitivity/kl.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class WorkbenchOfRandomModel : public testing::Test {
 protected:
  void SetUp() override {
    Json config = small_config("llama");
    config["num_hidden_layers"] = 2;
    write_random_model(directory_ / "model", config, DType::F32);
    options_.calibration.tokens = 32;
    options_.calibration.window = 8;
  }

  static MethodChoice method(const std::string& name) {
    return resolve_automatic(parse_method(name), find_effort("standard", true));
  }

  TemporaryDirectory directory_;
  WorkbenchOptions options_;
};

TEST_F(WorkbenchOfRandomModel, WithoutCalibrationTheModelWritesItsOwnAndSaysSo) {
  Workbench own(open_model(directory_ / "model"), options_);
  testing::internal::CaptureStderr();
  const Scores scores = own.scores(method("lim"), {}, 0);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("--method lim needs calibration text"),
            std::string::npos);
  EXPECT_EQ(scores.details["calibration"]["source"], "self");
  options_.calibration.source = "self";
  Workbench given(open_model(directory_ / "model"), options_);
  testing::internal::CaptureStderr();
  EXPECT_EQ(to_json(given.scores(method("lim"), {}, 0)), to_json(scores));
  EXPECT_EQ(testing::internal::GetCapturedStderr().find("needs calibration"), std::string::npos);
}

TEST_F(WorkbenchOfRandomModel, ReadsAndMeasuresEverythingOnce) {
  options_.calibration.source = "self";
  Workbench bench(open_model(directory_ / "model"), options_);
  EXPECT_EQ(bench.calibration("a test"), bench.calibration("another"));
  const std::vector<Scheme> schemes = parse_schemes("w2g32,w4g32");
  const Scores& scores = bench.scores(method("kl"), schemes, 0);
  EXPECT_EQ(&bench.scores(method("kl"), schemes, 0), &scores);
  EXPECT_NE(&bench.scores(method("kl"), parse_schemes("w2g32,w3g32"), 0), &scores);
  EXPECT_NE(&bench.scores(method("random"), schemes, 0), &bench.scores(method("random"), schemes, 1));
  EXPECT_EQ(&bench.reference(), &bench.reference());
}

// What checks a plan of "auto" has not been scored on, other methods see all tokens.
TEST_F(WorkbenchOfRandomModel, HoldsTokensBackFromAutoAlone) {
  options_.calibration.source = "self";
  Workbench bench(open_model(directory_ / "model"), options_);
  const std::vector<Scheme> schemes = parse_schemes("w2g32,w4g32");
  EXPECT_EQ(bench.scores(method("auto"), schemes, 0).details["calibration"]["tokens"], 24);
  EXPECT_EQ(bench.scores(method("kl"), schemes, 0).details["calibration"]["tokens"], 32);
}

TEST_F(WorkbenchOfRandomModel, DeclaredOptionsReachTheirMethods) {
  for (const SensitivityMethod& one : sensitivity_methods())
    if (one.options != nullptr)
      for (const Option& option : one.options(options_.methods)) {
        if (option.name == "kl-tokens") option.set("9");
        if (option.name == "interactions") option.set("off");
      }
  EXPECT_EQ(options_.methods.get<KlOptions>().tokens, 9);
  Workbench bench(open_model(directory_ / "model"), options_);
  const std::vector<Scheme> schemes = parse_schemes("w2g32");
  EXPECT_EQ(bench.scores(method("kl"), schemes, 0).details["calibration"]["tokens"], 16);
  EXPECT_TRUE(bench.scores(method("high-impact"), schemes, 0).pair_costs.empty());
}

// Which is the third of its plans to be quantized here otherwise.
TEST_F(WorkbenchOfRandomModel, TheCheckedPlanIsQuantizedOnce) {
  options_.calibration.source = "self";
  const std::vector<Scheme> schemes = parse_schemes("w2g32,w3g32,w4g32");
  AllocatorOptions allocator;
  allocator.schemes = schemes;
  allocator.budget.bits_per_weight = 4.0;
  QuantizerChoice gptq;
  gptq.name = "gptq";
  Workbench bench(open_model(directory_ / "model"), options_),
      fresh(open_model(directory_ / "model"), options_);
  const Scores scores = bench.scores(method("auto"), schemes, 0);
  const Plan plan = make_plan(bench.model(), scores, allocator);
  bench.check(method("auto"), plan, scores, allocator, gptq);
  bench.release();
  const std::map<std::string, Scheme> planned = schemes_of(plan);
  const std::shared_ptr<CalibratedQuantizer> again = bench.prepare(planned, gptq).calibrated,
                                             first = fresh.prepare(planned, gptq).calibrated;
  EXPECT_EQ(bench.prepare(planned, gptq).calibrated, again);
  const auto expect_same = [&](const std::map<std::string, Scheme>& some) {
    again->begin(some);
    first->begin(some);
    for (const Module& module : bench.model().modules) {
      if (some.count(module.tensor) == 0) continue;
      at::Tensor kept = at::empty({module.rows, module.cols}), made = at::empty_like(kept);
      again->take(module.tensor).dequantize(kept.data_ptr<float>());
      first->take(module.tensor).dequantize(made.data_ptr<float>());
      EXPECT_TRUE(at::equal(kept, made)) << module.tensor;
    }
  };
  expect_same(planned);
  std::map<std::string, Scheme> fewer = planned;  // what comes after the first sees other inputs
  fewer.erase(bench.model().modules.front().tensor);
  expect_same(fewer);
}

TEST_F(WorkbenchOfRandomModel, RowImpactsAreMeasuredForSchemesThatMixRowsAlone) {
  Workbench without(open_model(directory_ / "model"), options_);
  EXPECT_TRUE(without.row_impacts(parse_schemes("w2g64+w3")).empty());
  options_.calibration.source = "self";
  Workbench bench(open_model(directory_ / "model"), options_);
  EXPECT_TRUE(bench.row_impacts(parse_schemes("w2g64")).empty());
  EXPECT_EQ(bench.row_impacts(parse_schemes("w2g64+w3")).size(), bench.model().modules.size());
}

}  // namespace
}  // namespace strata
