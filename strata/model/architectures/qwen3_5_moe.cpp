#include "strata/model/architectures/experts.h"
#include "strata/model/architectures/qwen3_5.h"

namespace strata {

// Qwen 3.5 with experts in every layer, beside which one with a gate of its own is read by all tokens.
Architecture qwen3_5_moe_text() {
  Architecture moe = qwen3_5_record("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", "qwen35moe");
  moe.experts = true;
  moe.defaults.update({{"hidden_size", 2048},
                       {"num_hidden_layers", 40},
                       {"num_key_value_heads", 2},
                       {"intermediate_size", 512},  // which these configs do not name
                       {"num_experts", 256},
                       {"num_experts_per_tok", 8},
                       {"moe_intermediate_size", 512},
                       {"shared_expert_intermediate_size", 512}});
  moe.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_qwen3_5_json(fields, config);
    read_experts(fields, "moe_intermediate_size", config);
    config.experts.shared_width = fields.integer("shared_expert_intermediate_size");
    config.intermediate_size = config.experts.width;
  };
  moe.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_qwen3_5_json(config, where, json);
    json["num_experts"] = config.experts.count;
    json["num_experts_per_tok"] = config.experts.used;
    json["moe_intermediate_size"] = config.experts.width;
    json["shared_expert_intermediate_size"] = config.experts.shared_width;
  };
  moe.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    read_qwen3_5_gguf(keys, config);
    config.experts.shared_width = keys.integer("expert_shared_feed_forward_length", config.experts.width);
  };
  moe.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys = qwen3_5_gguf_keys(config);
    keys.push_back(
        {"expert_shared_feed_forward_length", gguf_u32(static_cast<uint32_t>(config.experts.shared_width))});
    return keys;
  };
  moe.tensors = [](const ModelConfig& config, int layer) {
    std::vector<LayerTensor> tensors = qwen3_5_mixer_tensors(config, layer);
    for (LayerTensor& tensor : expert_tensors(config)) tensors.push_back(std::move(tensor));
    return tensors;
  };
  moe.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = qwen3_5_mixer_plan(config, layer);
    plan.blocks.push_back({"post_attention_layernorm", "", experts_plan(config)});
    return plan;
  };
  return moe;
}

}  // namespace strata
