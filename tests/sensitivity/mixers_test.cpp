// Layers without attention, as every method sees them.

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "strata/checkpoint/scaled_checkpoint.h"
#include "strata/sensitivity/method.h"
#include "tests/support/architecture_models.h"
#include "tests/support/random_ids.h"

namespace strata {
namespace {

constexpr const char* kModels[] = {"granite4", "lfm2", "qwen3-5"};

TEST(Mixers, AreScoredByEveryMethod) {
  for (const char* name : kModels) {
    const Model model = open_model(architecture_model(name).directory);
    Evidence evidence;
    evidence.calibration = std::make_shared<const Calibration>(
        make_calibration(random_ids(12, 12, model.config.vocab_size), "test"));
    SensitivityOptions options;
    options.schemes = parse_schemes("w4g32,w2g32");
    for (const SensitivityMethod& method : sensitivity_methods()) {
      const Scores scores = score(model, method.name, options, evidence);
      ASSERT_FALSE(scores.scores.empty()) << name << " " << method.name;
      for (const Score& line : scores.scores)
        EXPECT_TRUE(std::isfinite(line.score)) << name << " " << method.name << " " << line.module;
      EXPECT_EQ(scores.costs.size(), 2 * model.modules.size()) << name << " " << method.name;
      for (const Cost& cost : scores.costs)
        EXPECT_TRUE(std::isfinite(cost.cost)) << name << " " << method.name << " " << cost.tensor;
    }
  }
}

// NSDS knows no circuit of convolutions: their layer is scored by its feed-forward block.
TEST(Mixers, LeaveNsdsToTheFeedForwardBlock) {
  const Model model = open_model(architecture_model("lfm2").directory);
  const auto components = [](const Model& of) {
    return score(of, "nsds", {}).details["layers"][0]["components"];
  };
  const auto with_scaled_rows = [&](const std::string& tensor) {
    TensorScaling scaling;
    for (int64_t row = 0; row < model.checkpoint->info(tensor).rows(); ++row)
      scaling.rows.push_back(row % 7 == 0 ? 9.0f : 1.0f);
    Model scaled = model;
    scaled.checkpoint = std::make_shared<ScaledCheckpoint>(
        model.checkpoint, std::map<std::string, TensorScaling>{{tensor, scaling}});
    return scaled;
  };
  const Json found = components(model);
  EXPECT_EQ(found.size(), 3u);
  EXPECT_TRUE(found.contains("gate") && found.contains("up") && found.contains("down"));
  EXPECT_EQ(components(with_scaled_rows("model.layers.0.conv.in_proj.weight")), found);
  EXPECT_NE(components(with_scaled_rows("model.layers.0.feed_forward.w3.weight")), found);
}

}  // namespace
}  // namespace strata
