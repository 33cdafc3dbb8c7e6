#include "strata/model/architectures/deepseek_experts.h"

namespace strata {

// GLM-4.5 and 4.6: grouped queries with partial rotation, norms of queries and keys in the larger member, and
// DeepSeek V3's experts.
Architecture glm4_moe() {
  Architecture glm4_moe;
  glm4_moe.model_type = "glm4_moe";
  glm4_moe.class_name = "Glm4MoeForCausalLM";
  glm4_moe.gguf_name = "glm4moe";
  glm4_moe.experts = true;
  glm4_moe.defaults = {{"rms_norm_eps", 1e-5},
                       {"partial_rotary_factor", 0.5},
                       {"n_shared_experts", 1},
                       {"norm_topk_prob", true},
                       {"first_k_dense_replace", 1}};
  glm4_moe.partial_rotary = true;
  glm4_moe.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    config.attention_bias = fields.flag("attention_bias", false);
    config.query_key_norms = fields.flag("use_qk_norm", false);
    read_deepseek_experts(fields, config);
  };
  glm4_moe.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["attention_bias"] = config.attention_bias;
    json["use_qk_norm"] = config.query_key_norms;
    write_deepseek_experts(config, json);
  };
  glm4_moe.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    config.query_key_norms = keys.file().find_tensor("blk.0.attn_q_norm.weight") != nullptr;
    read_gguf_deepseek_experts(keys, config);
  };
  glm4_moe.gguf_keys = [](const ModelConfig& config) {
    return deepseek_expert_keys(config, GatingKey::Sigmoid);
  };
  glm4_moe.gguf_refusal = deepseek_gguf_refusal;
  glm4_moe.tensors = [](const ModelConfig& config, int layer) {
    std::vector<LayerTensor> tensors =
        pre_norm_expert_tensors(config, layer, false, deepseek_names(/*bias=*/true));
    for (LayerTensor& tensor : tensors)
      if (tensor.name == "post_attention_layernorm") tensor.gguf_name = "post_attention_norm";
    if (!config.query_key_norms) return tensors;
    tensors.push_back(norm("self_attn.q_norm", "attn_q_norm", config.head_dim));
    tensors.push_back(norm("self_attn.k_norm", "attn_k_norm", config.head_dim));
    return tensors;
  };
  glm4_moe.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = pre_norm_expert_plan(config, layer, deepseek_names(/*bias=*/true));
    if (config.has_experts(layer))
      std::get<ExpertsPlan>(plan.blocks.back().block).router.score = RouterPlan::Score::Sigmoid;
    if (!config.query_key_norms) return plan;
    auto& attention = std::get<AttentionPlan>(plan.blocks.front().block);
    attention.q_norm = "self_attn.q_norm";
    attention.k_norm = "self_attn.k_norm";
    return plan;
  };
  return glm4_moe;
}

}  // namespace strata
