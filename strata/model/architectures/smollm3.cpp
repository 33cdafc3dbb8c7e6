#include "strata/core/error.h"
#include "strata/model/architectures/common.h"

namespace strata {
namespace {

constexpr int64_t kInterval = 4;  // the only one that llama.cpp's graph has

void rotate_by_interval(ModelConfig& config, int64_t interval) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    config.rotating_layers.push_back((layer + 1) % interval != 0);
}

// no_rope_layers lists a 1 for each layer that rotates and a 0 for each that does not.
void read_rotating_layers(const ConfigFields& fields, ModelConfig& config) {
  const int64_t interval = fields.integer("no_rope_layer_interval", kInterval);
  if (interval < 1) fail("{}: no_rope_layer_interval is {}, expected 1 or more", fields.where(), interval);
  if (!fields.has("no_rope_layers")) return rotate_by_interval(config, interval);
  const std::vector<float> rotates = fields.reals("no_rope_layers");
  if (static_cast<int64_t>(rotates.size()) != config.num_layers)
    fail("{}: no_rope_layers has {} entries, expected {}, one a layer", fields.where(), rotates.size(),
         config.num_layers);
  for (const float rotate : rotates) config.rotating_layers.push_back(rotate != 0);
}

}  // namespace

// Llama with layers between the others that do not rotate queries and keys.
Architecture smollm3() {
  Architecture smollm3;
  smollm3.model_type = "smollm3";
  smollm3.class_name = "SmolLM3ForCausalLM";
  smollm3.gguf_name = "smollm3";
  smollm3.defaults = {{"rope_theta", 2e6}, {"tie_word_embeddings", true}, {"num_key_value_heads", 4}};
  smollm3.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    config.mlp_bias = fields.flag("mlp_bias", false);
    read_rotating_layers(fields, config);
    if (fields.flag("use_sliding_window", false)) read_sliding_window(fields, config);
  };
  smollm3.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    json["mlp_bias"] = config.mlp_bias;
    json["no_rope_layers"] = Json::array();
    for (const bool rotates : config.rotating_layers) json["no_rope_layers"].push_back(rotates ? 1 : 0);
  };
  smollm3.read_gguf = [](const GgufKeys&, ModelConfig& config) { rotate_by_interval(config, kInterval); };
  smollm3.gguf_refusal = [](const ModelConfig& config) {
    ModelConfig usual = config;
    usual.rotating_layers.clear();
    rotate_by_interval(usual, kInterval);
    if (config.rotating_layers != usual.rotating_layers)
      return std::string("layers without rope that are not every fourth");
    if (config.sliding_window > 0) return std::string("a sliding window");
    return plain_gguf_refusal(config);
  };
  smollm3.tensors = [](const ModelConfig& config, int) { return pre_norm_tensors(config, true); };
  smollm3.plan = pre_norm_plan;
  return smollm3;
}

}  // namespace strata
