#include "strata/model/architectures/common.h"
#include "strata/model/architectures/gemma.h"

namespace strata {
namespace {

constexpr int64_t kLayersOfGemma3With27B = 62;

}  // namespace

// Gemma 2 with norms on every query and key head in the place of the caps; five of six layers slide, with a
// rope of their own.
Architecture gemma3_text() {
  Architecture gemma3 = gemma_record("gemma3_text", "Gemma3ForCausalLM", "gemma3");
  gemma3.defaults.update({{"vocab_size", 262208},
                          {"num_attention_heads", 8},
                          {"num_key_value_heads", 4},
                          {"max_position_embeddings", 131072},
                          {"query_pre_attn_scalar", 256},
                          {"sliding_window", 4096}});
  gemma3.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    read_scores(fields, config);
    read_sliding_pattern(fields, config, 6);
    if (fields.has("rope_parameters")) return;
    config.rope.theta = fields.real("rope_theta", 1e6);
    config.sliding_rope = Rope{fields.real("rope_local_base_freq", 1e4), config.head_dim, {}};
  };
  gemma3.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    write_scores(config, json);
    json["rope_local_base_freq"] = config.sliding_rope.value_or(config.rope).theta;
  };
  gemma3.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    config.attention_scale = gguf_attention_scale(config, kLayersOfGemma3With27B);
    config.final_softcap = keys.real("final_logit_softcapping", 0);
    read_gguf_sliding_period(keys, config, 6);
    config.sliding_rope = Rope{keys.real("rope.freq_base_swa", 1e4), config.head_dim, {}};
  };
  gemma3.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys;
    if (config.sliding_rope)
      keys.push_back({"rope.freq_base_swa", gguf_f32(static_cast<float>(config.sliding_rope->theta))});
    if (config.final_softcap > 0)
      keys.push_back({"final_logit_softcapping", gguf_f32(static_cast<float>(config.final_softcap))});
    write_sliding_period(config, keys);
    return keys;
  };
  gemma3.gguf_refusal = [](const ModelConfig& config) {
    if (config.attention_softcap > 0) return std::string("capped scores of attention");
    if (config.sliding_rope && config.sliding_rope->scaling.type != RopeScaling::Type::None)
      return std::string("scaled rope in sliding layers");
    return gemma_gguf_refusal(config, kLayersOfGemma3With27B);
  };
  gemma3.tensors = [](const ModelConfig& config, int) {
    std::vector<LayerTensor> tensors = sandwich_tensors(config);
    tensors.push_back(norm("self_attn.q_norm", "attn_q_norm", config.head_dim));
    tensors.push_back(norm("self_attn.k_norm", "attn_k_norm", config.head_dim));
    return tensors;
  };
  gemma3.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = sandwich_plan(config, layer);
    auto& attention = std::get<AttentionPlan>(plan.blocks.front().block);
    attention.q_norm = "self_attn.q_norm";
    attention.k_norm = "self_attn.k_norm";
    return plan;
  };
  return gemma3;
}

}  // namespace strata
