#include "strata/model/architectures/common.h"

namespace strata {

// Llama with RMS norms on every query and key head and, where asked for, a sliding window in the later
// layers.
Architecture qwen3() {
  Architecture qwen3;
  qwen3.model_type = "qwen3";
  qwen3.class_name = "Qwen3ForCausalLM";
  qwen3.gguf_slides = false;
  qwen3.gguf_name = "qwen3";
  qwen3.defaults = {{"head_dim", 128}};
  qwen3.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    read_late_sliding_window(fields, config);
  };
  qwen3.write_json = write_attention_bias;
  qwen3.gguf_refusal = plain_gguf_refusal;
  qwen3.tensors = [](const ModelConfig& config, int) {
    std::vector<LayerTensor> tensors = pre_norm_tensors(config, false);
    tensors.push_back(norm("self_attn.q_norm", "attn_q_norm", config.head_dim));
    tensors.push_back(norm("self_attn.k_norm", "attn_k_norm", config.head_dim));
    return tensors;
  };
  qwen3.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = pre_norm_plan(config, layer);
    auto& attention = std::get<AttentionPlan>(plan.blocks.front().block);
    attention.q_norm = "self_attn.q_norm";
    attention.k_norm = "self_attn.k_norm";
    return plan;
  };
  return qwen3;
}

}  // namespace strata
