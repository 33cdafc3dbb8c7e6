#include "strata/model/architectures/experts.h"

namespace strata {

// Qwen 2 with experts, beside which one with a gate of its own is read by all tokens.
Architecture qwen2_moe() {
  Architecture qwen2_moe;
  qwen2_moe.model_type = "qwen2_moe";
  qwen2_moe.class_name = "Qwen2MoeForCausalLM";
  qwen2_moe.gguf_name = "qwen2moe";
  qwen2_moe.experts = true;
  qwen2_moe.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    config.attention_bias = fields.flag("qkv_bias", true);
    read_qwen_experts(fields, config);
    config.experts.shared_width = fields.integer("shared_expert_intermediate_size");
    if (fields.flag("use_sliding_window", false))
      throw NotRunnable(fields.where() + ": use_sliding_window is true, which is not supported");
  };
  qwen2_moe.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["qkv_bias"] = config.attention_bias;
    write_qwen_experts(config, json);
    json["shared_expert_intermediate_size"] = config.experts.shared_width;
  };
  qwen2_moe.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    config.experts.renormalized = false;
    config.experts.shared_width = keys.integer("expert_shared_feed_forward_length", config.intermediate_size);
  };
  qwen2_moe.gguf_keys = [](const ModelConfig& config) {
    return std::vector<GgufKey>{
        {"expert_shared_feed_forward_length", gguf_u32(static_cast<uint32_t>(config.experts.shared_width))}};
  };
  qwen2_moe.gguf_refusal = [](const ModelConfig& config) {
    return config.tied_embeddings ? "a head that is the embedding" : expert_gguf_refusal(config, false);
  };
  qwen2_moe.tensors = [](const ModelConfig& config, int layer) {
    return pre_norm_expert_tensors(config, layer, false);
  };
  qwen2_moe.plan = [](const ModelConfig& config, int layer) { return pre_norm_expert_plan(config, layer); };
  return qwen2_moe;
}

}  // namespace strata
