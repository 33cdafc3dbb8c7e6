#include "strata/model/architectures/common.h"

namespace strata {

// Phi-3 and Phi-4: queries, keys and values in one matrix, gate and up in another; heads may rotate in part,
// and longrope stretches the context.
Architecture phi3() {
  Architecture phi3;
  phi3.model_type = "phi3";
  phi3.class_name = "Phi3ForCausalLM";
  phi3.gguf_slides = false;
  phi3.gguf_name = "phi3";
  phi3.defaults = {{"rms_norm_eps", 1e-5}};
  phi3.partial_rotary = true;
  phi3.read_json = read_sliding_window;
  phi3.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["sliding_window"] = config.sliding_window > 0 ? Json(config.sliding_window) : Json(nullptr);
    json["pad_token_id"] = nullptr;  // Phi3Config's own lies beyond small vocabularies
  };
  phi3.gguf_refusal = plain_gguf_refusal;
  phi3.tensors = [](const ModelConfig& c, int) -> std::vector<LayerTensor> {
    const int64_t queries = c.num_heads * c.head_dim, keys = c.num_kv_heads * c.head_dim;
    const std::vector<LayerTensor> feed_forward = fused_feed_forward(c);
    return {norm("input_layernorm", "attn_norm", c.hidden_size),
            {"self_attn.qkv_proj",
             "attn_qkv",
             c.hidden_size,
             {{Role::Q, queries, 0}, {Role::K, keys, 0}, {Role::V, keys, 0}}},
            matrix("self_attn.o_proj", "attn_output", Role::O, c.hidden_size, queries, false),
            norm("post_attention_layernorm", "ffn_norm", c.hidden_size),
            feed_forward.front(),
            feed_forward.back()};
  };
  phi3.plan = [](const ModelConfig& config, int layer) {
    AttentionPlan attention = separate_attention_plan(config, layer);
    attention.inputs = {"self_attn.qkv_proj"};
    return LayerPlan{
        {{"input_layernorm", "", attention}, {"post_attention_layernorm", "", fused_feed_forward_plan()}}};
  };
  return phi3;
}

}  // namespace strata
