#include "strata/model/architectures/experts.h"

namespace strata {

// Norms before the blocks, queries and keys normed over all heads together, and experts in all layers.
Architecture olmoe() {
  Architecture olmoe;
  olmoe.model_type = "olmoe";
  olmoe.class_name = "OlmoeForCausalLM";
  olmoe.gguf_name = "olmoe";
  olmoe.experts = true;
  olmoe.defaults = {{"rms_norm_eps", 1e-5}};
  olmoe.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    read_experts(fields, "intermediate_size", config);
    config.experts.renormalized = fields.flag("norm_topk_prob", false);
    if (fields.has("clip_qkv"))
      throw NotRunnable(fields.where() +
                        ": clip_qkv, which limits queries, keys and values, is not supported");
  };
  olmoe.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    json["num_experts"] = config.experts.count;
    json["num_experts_per_tok"] = config.experts.used;
    json["norm_topk_prob"] = config.experts.renormalized;
    json["pad_token_id"] = nullptr;  // OlmoeConfig's own may lie beyond small vocabularies
  };
  olmoe.read_gguf = [](const GgufKeys&, ModelConfig& config) { config.experts.renormalized = false; };
  olmoe.gguf_refusal = [](const ModelConfig& config) {
    if (config.attention_bias) return std::string("biases in attention");
    if (config.tied_embeddings) return std::string("a head that is the embedding");
    if (config.num_kv_heads != config.num_heads) return std::string("fewer key than query heads");
    return expert_gguf_refusal(config, false);
  };
  olmoe.tensors = [](const ModelConfig& config, int layer) {
    std::vector<LayerTensor> tensors = pre_norm_expert_tensors(config, layer, false);
    tensors.push_back(norm("self_attn.q_norm", "attn_q_norm", config.num_heads * config.head_dim));
    tensors.push_back(norm("self_attn.k_norm", "attn_k_norm", config.num_kv_heads * config.head_dim));
    return tensors;
  };
  olmoe.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = pre_norm_expert_plan(config, layer);
    auto& attention = std::get<AttentionPlan>(plan.blocks.front().block);
    attention.q_norm = "self_attn.q_norm";
    attention.k_norm = "self_attn.k_norm";
    attention.norm_over = AttentionPlan::NormOver::AllHeads;
    return plan;
  };
  return olmoe;
}

}  // namespace strata
