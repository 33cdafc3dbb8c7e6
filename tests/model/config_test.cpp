#include <gtest/gtest.h>

#include "strata/core/error.h"
#include "strata/core/json.h"
#include "strata/forward/rope.h"
#include "strata/model/config_json.h"
#include "strata/model/model.h"
#include "strata/model/rope_scaling.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

Json base(const std::string& type) {
  return {{"model_type", type},         {"hidden_size", 64},        {"intermediate_size", 96},
          {"num_hidden_layers", 3},     {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"vocab_size", 100},          {"rms_norm_eps", 1e-6},     {"max_position_embeddings", 4096},
          {"tie_word_embeddings", true}};
}

ModelConfig read(const Json& document) {
  const TemporaryDirectory directory;
  write_json(directory / "config.json", document);
  return read_config(directory / "config.json");
}

std::string error_of_config(const Json& document) {
  try {
    read(document);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void expect_refused(const char* key, const Json& value, const std::string& mentioned) {
  Json document = base("llama");
  document[key] = value;
  const std::string message = error_of_config(document);
  EXPECT_NE(message.find(mentioned), std::string::npos) << key << " = " << value << ": '" << message << "'";
}

TEST(Config, OfTheBundledModel) {
  const ModelConfig config = read_config(STRATA_SOURCE_DIR "/models/tiny-llama/config.json");
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.hidden_size, 256);
  EXPECT_EQ(config.intermediate_size, 768);
  EXPECT_EQ(config.num_layers, 16);
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.vocab_size, 8192);
  EXPECT_EQ(config.max_position_embeddings, 1024);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.bos, 0);
  EXPECT_EQ(config.eos, 0);
  EXPECT_EQ(config.rope.scaling.type, RopeScaling::Type::None);
}

TEST(Config, DiffersByArchitecture) {
  Json document = base("llama");
  EXPECT_FALSE(read(document).attention_bias);
  document["attention_bias"] = true;
  document["mlp_bias"] = true;
  EXPECT_TRUE(read(document).output_bias && read(document).mlp_bias);

  const ModelConfig qwen2 = read(base("qwen2"));
  EXPECT_TRUE(qwen2.attention_bias && !qwen2.output_bias);
  const ModelConfig qwen3 = read(base("qwen3"));
  EXPECT_FALSE(qwen3.attention_bias);
  EXPECT_EQ(qwen3.head_dim, 128);

  document = base("mistral");
  document["head_dim"] = 32;
  document["eos_token_id"] = {7, 8};
  document["bos_token_id"] = -1;
  const ModelConfig mistral = read(document);
  EXPECT_EQ(mistral.head_dim, 32);
  EXPECT_EQ(mistral.eos, 7);
  EXPECT_FALSE(mistral.bos.has_value());
  document.erase("num_key_value_heads");
  EXPECT_EQ(read(document).num_kv_heads, 4);
}

TEST(Config, TakesTheClassNameWhereModelTypeIsMissing) {
  Json document = base("");
  document.erase("model_type");
  EXPECT_NE(error_of_config(document).find("neither model_type nor architectures"), std::string::npos);
  document["architectures"] = {"Qwen3ForCausalLM"};
  EXPECT_EQ(read(document).architecture, "qwen3");
}

TEST(Config, NamesUnknownArchitecturesAndTheKnownOnes) {
  const std::string message = error_of_config(base("mamba"));
  for (const char* part : {"'mamba'", "llama", "mistral", "qwen2", "qwen3"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(Config, ReadsRopeInBothSpellings) {
  Json document = base("llama");
  document["rope_theta"] = 500000.0;
  document["rope_scaling"] = nullptr;
  EXPECT_EQ(read(document).rope.theta, 500000);
  document["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  EXPECT_EQ(read(document).rope.scaling.type, RopeScaling::Type::Linear);
  EXPECT_EQ(read(document).rope.scaling.factor, 4);
  document["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", 8.0},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0},
                              {"original_max_position_embeddings", 8192}};
  const ModelConfig old_spelling = read(document);

  document = base("llama");
  document["rope_parameters"] = {{"rope_type", "llama3"},   {"rope_theta", 500000.0},
                                 {"factor", 8.0},           {"low_freq_factor", 1.0},
                                 {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 8192}};
  const ModelConfig new_spelling = read(document);
  EXPECT_EQ(new_spelling.rope.scaling.type, RopeScaling::Type::Llama3);
  EXPECT_EQ(rope_frequencies(new_spelling.rope), rope_frequencies(old_spelling.rope));
  document["rope_parameters"] = {{"rope_type", "linear"}, {"rope_theta", 20000}, {"factor", 2}};
  EXPECT_EQ(read(document).rope.theta, 20000);
  EXPECT_EQ(read(document).rope.scaling.factor, 2);
}

TEST(Config, RefusesRopeTypesByName) {
  expect_refused("rope_scaling", {{"type", "peculiar"}, {"factor", 2.0}}, "'peculiar'");
  expect_refused("rope_parameters", {{"rope_type", "peculiar"}, {"factor", 2.0}}, "'peculiar'");
  expect_refused("rope_scaling", {{"type", "dynamic"}}, "no factor");
  expect_refused("rope_scaling", {{"factor", 2.0}}, "neither rope_type nor type");
  expect_refused("rope_scaling", {{"type", "linear"}}, "no factor");
  expect_refused("rope_scaling", {{"type", "longrope"}}, "no short_factor");
  expect_refused("rope_scaling", {{"type", "longrope"}, {"short_factor", {1, 1}}, {"long_factor", {1, 1}}},
                 "2 rotary frequency factors");
  expect_refused("rope_scaling", 3, "not an object");
}

// transformers' formula (modeling_rope_utils.py, _compute_llama3_parameters) in wave lengths, for the values
// of Llama-3.1.
TEST(Rope, ScalesAsLlama3) {
  Json document = base("llama");
  document["head_dim"] = 128;
  document["rope_theta"] = 500000.0;
  document["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", 8.0},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0},
                              {"original_max_position_embeddings", 8192}};
  const std::vector<double> divisors = rope_divisors(read(document).rope);
  ASSERT_EQ(divisors.size(), 64u);
  int kept = 0, divided = 0, between = 0;
  for (int i = 0; i < 64; ++i) {
    const double wavelength = 2 * M_PI * std::pow(500000.0, i / 64.0);
    double expected = 1;
    if (wavelength > 8192 / 1.0) {
      expected = 8;
      ++divided;
    } else if (wavelength >= 8192 / 4.0) {
      const double smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0);
      expected = 1 / ((1 - smooth) / 8 + smooth);
      ++between;
    } else {
      ++kept;
    }
    EXPECT_NEAR(divisors[i], expected, 1e-9) << i;
  }
  EXPECT_TRUE(kept > 0 && divided > 0 && between > 0);
}

// transformers' formula (modeling_rope_utils.py, _compute_longrope_parameters) for a head of 4 and a context
// 4 times the original.
TEST(Rope, TakesShortOrLongFactorsByTheLength) {
  Json document = base("llama");
  document["head_dim"] = 4;
  document["original_max_position_embeddings"] = 1024;
  document["rope_scaling"] = {
      {"type", "longrope"}, {"short_factor", {1.0, 2.0}}, {"long_factor", {1.5, 8.0}}};
  const ModelConfig config = read(document);
  EXPECT_NEAR(config.rope.scaling.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(1024.0)), 1e-12);
  EXPECT_EQ(rope_divisors(config.rope, 1024), (std::vector<double>{1, 2}));
  EXPECT_EQ(rope_divisors(config.rope, 1025), (std::vector<double>{1.5, 8}));
  RopeTables tables(config, at::kCPU);
  for (const int64_t length : {5, 1025, 1024})
    EXPECT_TRUE(at::equal(tables.of_layer(0, length).cosines,
                          make_rope_table(config.rope, length, at::kCPU).cosines));
  const RopeTable table = make_rope_table(config.rope, 1025, at::kCPU);
  EXPECT_NEAR(table.cosines[3][1].item<double>(),
              config.rope.scaling.attention_factor * std::cos(3 * 0.01 / 8), 1e-6);
  document["rope_scaling"]["attention_factor"] = 1.25;
  EXPECT_EQ(read(document).rope.scaling.attention_factor, 1.25);
}

TEST(Config, ReadsSlidingWindows) {
  Json document = base("mistral");
  document["sliding_window"] = 8;
  EXPECT_EQ(read(document).scores_of(2).window, 8);
  document["sliding_window"] = nullptr;
  EXPECT_EQ(read(document).scores_of(2).window, 0);

  document = base("qwen2");
  document["sliding_window"] = 8;
  document["max_window_layers"] = 1;
  EXPECT_EQ(read(document).scores_of(2).window, 0);
  document["use_sliding_window"] = true;
  EXPECT_EQ(read(document).scores_of(0).window, 0);
  EXPECT_EQ(read(document).scores_of(1).window, 8);
  document["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(read(document).scores_of(0).window, 8);
  EXPECT_EQ(read(document).scores_of(1).window, 0);
  document["layer_types"] = {"sliding_attention"};
  EXPECT_NE(error_of_config(document).find("layer_types"), std::string::npos);
}

TEST(Config, LeavesKeysToTheClass) {
  Json document = base("gemma3_text");
  for (const char* key : {"num_attention_heads", "num_key_value_heads", "vocab_size", "tie_word_embeddings"})
    document.erase(key);
  const ModelConfig config = read(document);
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.vocab_size, 262208);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.sliding_window, 4096);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.sliding_rope.value().theta, 1e4);
  EXPECT_EQ(config.attention_scale, 1.0 / 16);
  EXPECT_EQ(config.embedding_scale, 8);
}

TEST(Config, ReadsTheTextPartOfAMultimodalOne) {
  const Json whole = {
      {"model_type", "peculiar_vl"}, {"text_config", base("qwen2")}, {"tie_word_embeddings", false}};
  EXPECT_EQ(read(whole).architecture, "qwen2");
  EXPECT_TRUE(read(whole).tied_embeddings) << "the part's own word comes first";
  Json without = whole;
  without["text_config"].erase("tie_word_embeddings");
  EXPECT_FALSE(read(without).tied_embeddings);
}

TEST(Config, SlidesByPeriod) {
  ModelConfig config;
  config.num_layers = 7;
  config.sliding_window = 4;
  EXPECT_EQ(sliding_period(config), 8) << "all slide";
  for (const int64_t period : {1, 2, 3, 6, 7}) {
    slide_by_period(config, period);
    for (int layer = 0; layer < 7; ++layer) EXPECT_EQ(config.slides(layer), (layer + 1) % period != 0);
    EXPECT_EQ(sliding_period(config), period);
  }
  config.sliding_layers = {true, false, false, true, true, true, false};
  EXPECT_FALSE(sliding_period(config).has_value());
}

TEST(Config, RefusesWhatNewerKeysCannotSay) {
  const auto refused = [](const std::string& type, const Json& changes, const std::string& mentioned) {
    Json document = base(type);
    document.update(changes);
    const std::string message = error_of_config(document);
    EXPECT_NE(message.find(mentioned), std::string::npos) << changes << ": '" << message << "'";
  };
  refused("gemma2", {{"hidden_activation", "relu"}}, "hidden_activation is 'relu'");
  refused("gemma2", {{"query_pre_attn_scalar", 0}}, "query_pre_attn_scalar is 0");
  refused("gemma2", {{"attn_logit_softcapping", -1}}, "a softcap is -1");
  refused("gemma3_text", {{"sliding_window_pattern", 0}}, "repeats after 0 layers");
  refused("gemma3_text", {{"layer_types", {"full_attention"}}}, "layer_types is not a list of 3");
  refused("gemma3_text", {{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}},
          "no object sliding_attention");
  refused("smollm3", {{"no_rope_layers", {1, 0}}}, "no_rope_layers has 2 entries, expected 3");
  refused("smollm3", {{"no_rope_layer_interval", 0}}, "no_rope_layer_interval is 0");
  refused("granite", {{"logits_scaling", 0}}, "logits_scaling is 0");
  refused("granite", {{"residual_multiplier", -2}}, "-2");
  refused("cohere2", {{"sliding_window", nullptr}}, "without sliding_window");
  const auto refused_gemma4 = [&](Json changes, const std::string& mentioned) {
    Json all = {{"hidden_size_per_layer_input", 0},
                {"layer_types", {"sliding_attention", "full_attention", "full_attention"}}};
    all.update(changes);
    refused("gemma4_text", all, mentioned);
  };
  refused_gemma4({{"hidden_size_per_layer_input", nullptr}}, "vocab_size_per_layer_input is 262144 and");
  refused_gemma4({{"hidden_size_per_layer_input", -1}}, "hidden_size_per_layer_input is -1");
  refused_gemma4({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000}}}},
                 "an entry for sliding_attention");
  refused_gemma4({{"num_kv_shared_layers", 3}}, "num_kv_shared_layers is 3, but must lie between 0 and 2");
  refused_gemma4({{"num_kv_shared_layers", 2}}, "num_kv_shared_layers is 2, but no layer before those 2");
  refused_gemma4({{"enable_moe_block", true}}, "mixture of experts");
  refused_gemma4({{"use_bidirectional_attention", "all"}}, "looks ahead");
  refused_gemma4({{"layer_types", {"full_attention", "full_attention", "sliding_attention"}}},
                 "the last layer slides");
  refused_gemma4({{"per_layer_config", {{"1", {{"head_dim", 24}}}}}}, "whose heads differ");
  refused_gemma4({{"global_head_dim", "wide"}}, "global_head_dim is");
  refused("llama", {{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"beta_slow", 0}}}},
          "beta_slow is 0");
}

TEST(Config, RefusesExpertsThatDoNotFit) {
  const auto refused = [](Json changes, const std::string& mentioned, const std::string& type = "glm4_moe") {
    Json document = base(type);
    document.update({{"n_routed_experts", 8},
                     {"num_experts_per_tok", 3},
                     {"moe_intermediate_size", 32},
                     {"kv_lora_rank", 16},
                     {"qk_nope_head_dim", 16},
                     {"qk_rope_head_dim", 8},
                     {"v_head_dim", 16}});
    document.update(changes);
    const std::string message = error_of_config(document);
    EXPECT_NE(message.find(mentioned), std::string::npos) << changes << ": '" << message << "'";
  };
  refused({{"n_group", 3}}, "n_group is 3, which does not divide the 8 experts");
  refused({{"n_group", 0}}, "n_group, the number of groups of experts, is 0");
  refused({{"n_group", 4}, {"topk_group", 5}}, "topk_group, the number of groups that a token uses, is 5");
  refused({{"n_group", 4}, {"topk_group", 1}},
          "a token uses 3 experts, but the 1 groups that it uses have only 2");
  refused({{"num_experts_per_tok", 9}}, "the number of experts that a token uses is 9");
  refused({{"n_shared_experts", -1}}, "n_shared_experts is -1");
  refused({{"first_k_dense_replace", 4}}, "the first 4 layers have no experts, but there are 3 layers");
  refused({{"routed_scaling_factor", -1}}, "the scale of the experts' gates is -1");
  refused({{"kv_lora_rank", 0}}, "kv_lora_rank is 0", "deepseek_v3");
  refused({{"v_head_dim", nullptr}}, "has no v_head_dim", "deepseek_v3");
  refused({{"qk_rope_head_dim", 7}}, "7 of 23 features a head rotate", "deepseek_v3");
  refused({{"topk_method", "noaux_tc"}}, "topk_method is 'noaux_tc'", "deepseek_v2");
  refused({{"num_local_experts", 8}, {"swiglu_limit", 5.0}}, "swiglu_limit are 1.702 and 5", "gpt_oss");
}

TEST(Config, RefusesWhatCannotBe) {
  expect_refused("hidden_size", 0, "hidden_size is 0");
  expect_refused("hidden_size", -64, "hidden_size is -64");
  expect_refused("hidden_size", 1e300, "must be an integer");
  expect_refused("hidden_size", 18446744073709551615ull, "must be an integer");
  expect_refused("hidden_size", "64", "must be an integer");
  expect_refused("hidden_size", nullptr, "has no hidden_size");
  expect_refused("hidden_size", 66, "does not divide");
  expect_refused("intermediate_size", int64_t{1} << 40, "intermediate_size");
  expect_refused("num_hidden_layers", 100000000, "num_hidden_layers");
  expect_refused("num_attention_heads", 0, "num_attention_heads 0");
  expect_refused("num_key_value_heads", 3, "num_key_value_heads 3 does not divide");
  expect_refused("head_dim", 7, "head_dim is 7");
  expect_refused("head_dim", 1 << 20, "query features");
  expect_refused("vocab_size", int64_t{1} << 33, "vocab_size");
  expect_refused("rope_theta", 0, "rope_theta");
  expect_refused("rms_norm_eps", -1, "rms_norm_eps");
  expect_refused("hidden_act", "gelu", "gelu");
  expect_refused("tie_word_embeddings", "yes", "true or false");
  expect_refused("partial_rotary_factor", 0.5, "partial_rotary_factor");
  Json document = base("mistral");
  document["sliding_window"] = -5;
  EXPECT_NE(error_of_config(document).find("sliding_window is -5"), std::string::npos);
  EXPECT_NE(error_of_config(Json::array()).find("not a JSON object"), std::string::npos);
}

}  // namespace
}  // namespace strata
