#include "strata/model/architectures/experts.h"

namespace strata {

// Qwen 3 with experts.
Architecture qwen3_moe() {
  Architecture qwen3_moe;
  qwen3_moe.model_type = "qwen3_moe";
  qwen3_moe.class_name = "Qwen3MoeForCausalLM";
  qwen3_moe.gguf_name = "qwen3moe";
  qwen3_moe.experts = true;
  qwen3_moe.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    read_qwen_experts(fields, config);
    if (fields.flag("use_sliding_window", false)) read_sliding_window(fields, config);
  };
  qwen3_moe.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    write_qwen_experts(config, json);
  };
  qwen3_moe.gguf_refusal = [](const ModelConfig& config) {
    return config.sliding_window > 0 ? "sliding layers" : expert_gguf_refusal(config, true);
  };
  qwen3_moe.tensors = [](const ModelConfig& config, int layer) {
    std::vector<LayerTensor> tensors = pre_norm_expert_tensors(config, layer, false);
    tensors.push_back(norm("self_attn.q_norm", "attn_q_norm", config.head_dim));
    tensors.push_back(norm("self_attn.k_norm", "attn_k_norm", config.head_dim));
    return tensors;
  };
  qwen3_moe.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = pre_norm_expert_plan(config, layer);
    auto& attention = std::get<AttentionPlan>(plan.blocks.front().block);
    attention.q_norm = "self_attn.q_norm";
    attention.k_norm = "self_attn.k_norm";
    return plan;
  };
  return qwen3_moe;
}

}  // namespace strata
