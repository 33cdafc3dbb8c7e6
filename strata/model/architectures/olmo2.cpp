#include "strata/model/architectures/common.h"

namespace strata {

// Norms stand behind the blocks and none before them; queries and keys are normed over all heads together.
Architecture olmo2() {
  Architecture olmo2;
  olmo2.model_type = "olmo2";
  olmo2.class_name = "Olmo2ForCausalLM";
  olmo2.gguf_name = "olmo2";
  olmo2.defaults = {{"rms_norm_eps", 1e-5}};
  olmo2.read_json = read_attention_bias;
  olmo2.write_json = write_attention_bias;
  olmo2.gguf_refusal = [](const ModelConfig& config) {
    return config.attention_bias ? std::string("biases in attention") : plain_gguf_refusal(config);
  };
  olmo2.tensors = [](const ModelConfig& config, int) {
    std::vector<LayerTensor> tensors = separate_attention(config, false);
    tensors.push_back(norm("self_attn.q_norm", "attn_q_norm", config.num_heads * config.head_dim));
    tensors.push_back(norm("self_attn.k_norm", "attn_k_norm", config.num_kv_heads * config.head_dim));
    tensors.push_back(norm("post_attention_layernorm", "post_attention_norm", config.hidden_size));
    for (LayerTensor& matrix : separate_feed_forward(config)) tensors.push_back(std::move(matrix));
    tensors.push_back(norm("post_feedforward_layernorm", "post_ffw_norm", config.hidden_size));
    return tensors;
  };
  olmo2.plan = [](const ModelConfig& config, int layer) {
    AttentionPlan attention = separate_attention_plan(config, layer);
    attention.q_norm = "self_attn.q_norm";
    attention.k_norm = "self_attn.k_norm";
    attention.norm_over = AttentionPlan::NormOver::AllHeads;
    return LayerPlan{{{"", "post_attention_layernorm", attention},
                      {"", "post_feedforward_layernorm", separate_feed_forward_plan()}}};
  };
  return olmo2;
}

}  // namespace strata
