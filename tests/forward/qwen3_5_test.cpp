#include <gtest/gtest.h>

#include "strata/core/json.h"
#include "strata/model/config_json.h"
#include "strata/model/model.h"
#include "tests/support/changed_model.h"

namespace strata {
namespace {

class Qwen3_5 : public ChangedModel {
 protected:
  Qwen3_5() : ChangedModel("qwen3-5") {}
};

TEST_F(Qwen3_5, AttendsAtAnIntervalOrWhereItsConfigSays) {
  const ModelConfig config = changed(Json::object()).config;
  EXPECT_EQ(config.attention_layers, (std::vector<bool>{false, false, true}));
  EXPECT_EQ(config.rope.rotary_dim, 8);  // a quarter of a head
  EXPECT_EQ(config.rope.sections, (std::vector<int64_t>{11, 11, 10}));
  EXPECT_EQ(changed({{"layer_types", nullptr}, {"full_attention_interval", 3}}).config.attention_layers,
            config.attention_layers);
  expect_error({{"layer_types", {"linear_attention", "full_attention"}}},
               "layer_types is not a list of 3 names, one a layer");
  expect_error({{"layer_types", {"linear_attention", "linear_attention", "mamba"}}},
               "layer_types has \"mamba\"; known are linear_attention and full_attention");
  expect_error({{"layer_types", nullptr}, {"full_attention_interval", 0}}, "full_attention_interval is 0");
}

TEST_F(Qwen3_5, RefusesSizesThatDoNotFit) {
  expect_error({{"linear_num_value_heads", 5}}, "5 value heads read 2 key heads");
  expect_error({{"linear_num_key_heads", 0}}, "the number of key heads is 0");
  expect_error({{"linear_conv_kernel_dim", 3}},
               "model.layers.0.linear_attn.conv1d.weight has shape [128, 1, 4], but the config asks for "
               "[128, 1, 3]");
}

TEST_F(Qwen3_5, WithoutAGateOfItsAttentionIsSizedOnly) {
  const Model model = changed({{"attn_output_gate", false}});
  EXPECT_FALSE(model.runnable);
  EXPECT_NE(model.refusal.find("without a gate of its output"), std::string::npos) << model.refusal;
}

TEST_F(Qwen3_5, CannotLeaveAsGgufWhereLlamaCppHasNoPlaceForIt) {
  EXPECT_EQ(gguf_refusal_of(changed(Json::object()).config), "");
  ModelConfig config = changed(Json::object()).config;
  config.attention_layers = {true, false, true};
  EXPECT_EQ(gguf_refusal_of(config), "layers that attend at no regular interval");
  config = changed(Json::object()).config;
  config.recurrence.value_dim = 32;
  EXPECT_EQ(gguf_refusal_of(config), "key heads and value heads of different sizes");
}

}  // namespace
}  // namespace strata
