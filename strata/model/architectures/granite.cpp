#include "strata/model/architectures/granite.h"

#include "strata/core/error.h"

namespace strata {

void read_multipliers(const ConfigFields& fields, ModelConfig& config) {
  config.embedding_scale = fields.real("embedding_multiplier", 1);
  config.residual_scale = fields.real("residual_multiplier", 1);
  config.attention_scale = fields.real("attention_multiplier", 1);
  const double divisor = fields.real("logits_scaling", 1);
  if (!(divisor > 0)) fail("{}: logits_scaling is {}, but must be positive", fields.where(), divisor);
  config.logit_scale = 1 / divisor;
}

void write_multipliers(const ModelConfig& config, Json& json) {
  json["embedding_multiplier"] = config.embedding_scale;
  json["residual_multiplier"] = config.residual_scale;
  json["attention_multiplier"] = config.scores_of(0).scale_for(config.head_dim);
  json["logits_scaling"] = 1 / config.logit_scale;
}

void read_gguf_multipliers(const GgufKeys& keys, ModelConfig& config) {
  // llama.cpp takes 0 for a factor of 1.
  const auto factor = [&](const char* key) {
    const double value = keys.real(key, 0);
    return value == 0 ? 1 : value;
  };
  config.embedding_scale = factor("embedding_scale");
  config.residual_scale = factor("residual_scale");
  config.attention_scale = keys.real("attention.scale", 0);
  config.logit_scale = 1 / factor("logit_scale");
}

std::vector<GgufKey> multiplier_keys(const ModelConfig& config) {
  const auto real = [](double value) { return gguf_f32(static_cast<float>(value)); };
  return {{"embedding_scale", real(config.embedding_scale)},
          {"residual_scale", real(config.residual_scale)},
          {"attention.scale", real(config.attention_scale)},
          {"logit_scale", real(1 / config.logit_scale)}};
}

ExpertNames granite_expert_names() {
  ExpertNames names;
  names.block = "block_sparse_moe";
  names.router = "router.layer";
  names.gate = "w1";  // as vLLM has them, and mlx-lm Mixtral's
  names.up = "w3";
  names.down = "w2";
  names.all_gate_up = "input_linear.weight";
  names.all_down = "output_linear.weight";
  return names;
}

// Llama with multipliers of the embedding, of attention scores, of what blocks add and of logits.
Architecture granite() {
  Architecture granite;
  granite.model_type = "granite";
  granite.class_name = "GraniteForCausalLM";
  granite.gguf_name = "granite";
  granite.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    config.mlp_bias = fields.flag("mlp_bias", false);
    read_multipliers(fields, config);
  };
  granite.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    json["mlp_bias"] = config.mlp_bias;
    write_multipliers(config, json);
  };
  granite.read_gguf = read_gguf_multipliers;
  granite.gguf_keys = multiplier_keys;
  granite.tensors = [](const ModelConfig& config, int) { return pre_norm_tensors(config, true); };
  granite.plan = pre_norm_plan;
  return granite;
}

}  // namespace strata
