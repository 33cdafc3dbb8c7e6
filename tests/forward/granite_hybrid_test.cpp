#include <gtest/gtest.h>

#include "strata/core/json.h"
#include "strata/model/model.h"
#include "tests/support/changed_model.h"

namespace strata {
namespace {

class GraniteHybridConfig : public ChangedModel {
 protected:
  GraniteHybridConfig() : ChangedModel("granite4") {}
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
