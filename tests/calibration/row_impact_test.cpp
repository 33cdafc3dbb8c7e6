#include "strata/calibration/row_impact.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/support/double_model.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

class RowImpactTest : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(directory_ / "model", {});
    model_ = open_model(directory_ / "model");
    calibration_ = make_calibration(random_ids(3, 12), "test");
  }

  TemporaryDirectory directory_;
  Model model_;
  Calibration calibration_;
};

TEST_F(RowImpactTest, IsTheMeanSquareOfEveryRowsGradientsOverBlocks) {
  const at::AutoGradMode with_gradients(true);
  DoubleModel exact(model_);
  for (const Module& module : model_.modules) exact.weight(module.tensor).set_requires_grad(true);
  std::map<std::string, at::Tensor> expected;
  for (int64_t b = 0; b < calibration_.blocks(); ++b) {
    const at::Tensor ids = calibration_.ids.narrow(0, b, 1);
    const int64_t predicted = ids.size(1) - 1;
    const at::Tensor log_p = at::log_softmax(exact.forward(ids)[0], -1).narrow(0, 0, predicted);
    at::nll_loss(log_p, ids[0].narrow(0, 1, predicted)).backward();
    for (const Module& module : model_.modules) {
      at::Tensor& weight = exact.weight(module.tensor);
      const at::Tensor squares = weight.grad().square().mean(1) / static_cast<double>(calibration_.blocks());
      at::Tensor& sum = expected[module.tensor];
      sum = sum.defined() ? sum + squares : squares;
      weight.mutable_grad() = at::Tensor();
    }
  }
  const RowImpacts impact = measure_row_impact(model_, calibration_, at::kCPU);
  ASSERT_EQ(impact.size(), model_.modules.size());
  for (const auto& [tensor, rows] : impact) {
    const at::Tensor& of_rows = expected.at(tensor);
    ASSERT_EQ(static_cast<int64_t>(rows.size()), of_rows.numel());
    for (int64_t r = 0; r < of_rows.numel(); ++r) {
      const double value = of_rows[r].item<double>();
      EXPECT_NEAR(rows[r], value, 1e-3 * value) << tensor << " row " << r;
    }
  }
}

TEST_F(RowImpactTest, IsFoundAgainInItsCache) {
  const RowImpacts first = measure_row_impact(model_, calibration_, at::kCPU, directory_ / "cache");
  // Tokens under the same fingerprint that gradients could not be computed on: nothing is measured again.
  Calibration unusable = calibration_;
  unusable.ids = at::full({3, 12}, 1 << 20, at::kLong);
  EXPECT_EQ(measure_row_impact(model_, unusable, at::kCPU, directory_ / "cache"), first);
  EXPECT_NE(error_of([&] { measure_row_impact(model_, unusable, at::kCPU); }), "");
}

TEST_F(RowImpactTest, NeedsTokens) {
  Calibration none;
  none.ids = at::empty({0, 12}, at::kLong);
  EXPECT_NE(error_of([&] { measure_row_impact(model_, none, at::kCPU); }).find("--calib"), std::string::npos);
}

}  // namespace
}  // namespace strata
