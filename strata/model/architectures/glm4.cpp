#include "strata/model/architectures/common.h"

namespace strata {

// Norms before and behind both blocks, gate and up in one matrix, and heads of which neighbouring features
// rotate, half of them.
Architecture glm4() {
  Architecture glm4;
  glm4.model_type = "glm4";
  glm4.class_name = "Glm4ForCausalLM";
  glm4.gguf_name = "glm4";
  glm4.defaults = {{"head_dim", 128},
                   {"rms_norm_eps", 1.5625e-7},
                   {"partial_rotary_factor", 0.5},
                   {"attention_bias", true}};
  glm4.partial_rotary = true;
  glm4.complete = [](ModelConfig& config) { config.rope.neighbours = true; };
  glm4.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    config.attention_bias = fields.flag("attention_bias", false);
  };
  glm4.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["attention_bias"] = config.attention_bias;
    json["partial_rotary_factor"] =
        static_cast<double>(config.rope.rotary_dim) / static_cast<double>(config.head_dim);
    json["pad_token_id"] = nullptr;  // Glm4Config's own lies beyond small vocabularies
  };
  glm4.gguf_refusal = plain_gguf_refusal;
  glm4.tensors = [](const ModelConfig& c, int) {
    std::vector<LayerTensor> tensors = {norm("input_layernorm", "attn_norm", c.hidden_size)};
    for (LayerTensor& matrix : separate_attention(c, false)) tensors.push_back(std::move(matrix));
    tensors.push_back(norm("post_self_attn_layernorm", "post_attention_norm", c.hidden_size));
    tensors.push_back(norm("post_attention_layernorm", "ffn_norm", c.hidden_size));
    for (LayerTensor& matrix : fused_feed_forward(c)) tensors.push_back(std::move(matrix));
    tensors.push_back(norm("post_mlp_layernorm", "post_ffw_norm", c.hidden_size));
    return tensors;
  };
  glm4.plan = [](const ModelConfig& config, int layer) {
    return LayerPlan{{{"input_layernorm", "post_self_attn_layernorm", separate_attention_plan(config, layer)},
                      {"post_attention_layernorm", "post_mlp_layernorm", fused_feed_forward_plan()}}};
  };
  return glm4;
}

}  // namespace strata
