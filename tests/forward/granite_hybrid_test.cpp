#include <gtest/gtest.h>

#include "strata/core/json.h"
#include "strata/model/model.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class GraniteHybridConfig : public testing::Test {
 protected:
  GraniteHybridConfig() {
    std::filesystem::copy(architecture_model("granite4").directory, directory_ / "model");
  }

  Model changed(const Json& changes) {
    Json config = read_json(architecture_model("granite4").directory / "config.json");
    config.update(changes);
    write_json(directory_ / "model" / "config.json", config);
    return open_model(directory_ / "model");
  }

  void expect_error(const Json& changes, const std::string& mentioned) {
    const std::string message = error_of([&] { changed(changes); });
    EXPECT_NE(message.find(mentioned), std::string::npos) << message;
  }

  void expect_sized_only(const Json& changes, const std::string& mentioned) {
    const Model model = changed(changes);
    EXPECT_FALSE(model.runnable);
    EXPECT_NE(model.refusal.find(mentioned), std::string::npos) << model.refusal;
  }

  const TemporaryDirectory directory_;
};

TEST_F(GraniteHybridConfig, KnowsBothNamesOfItsLayers) {
  const std::vector<bool> expected = {false, true, false};
  EXPECT_EQ(changed(Json::object()).config.attention_layers, expected);
  EXPECT_EQ(changed({{"layer_types", {"mamba", "attention", "mamba"}}, {"mamba_d_head", "auto"}})
                .config.attention_layers,
            expected);
  expect_error({{"layer_types", {"mamba", "attention"}}},
               "layer_types is not a list of 3 names, one a layer");
  expect_error({{"layer_types", {"mamba", "attention", "rwkv"}}}, "layer_types has \"rwkv\"");
}

TEST_F(GraniteHybridConfig, RefusesSizesThatDoNotFit) {
  expect_error({{"mamba_n_groups", 3}}, "8 value heads read 3 key heads");
  expect_error({{"mamba_n_heads", 7}, {"mamba_d_head", "auto"}},
               "mamba_n_heads is 7, which does not divide 128");
  expect_error({{"mamba_d_conv", 3}},
               "model.layers.0.mamba.conv1d.weight has shape [192, 1, 4], but the config "
               "asks for [192, 1, 3]");
}

TEST_F(GraniteHybridConfig, IsSizedOnlyWhereItsForwardPassIsNotKnown) {
  expect_sized_only({{"time_step_limit", {0.001, 0.1}}}, "steps that time_step_limit bounds");
  expect_sized_only({{"mamba_proj_bias", true}}, "biases of Mamba's projections");
}

}  // namespace
}  // namespace strata
