#include "strata/model/architectures/granite.h"

namespace strata {
// Granite with experts in all layers, whose matrices directories have in one tensor.
Architecture granitemoe() {
  Architecture granitemoe;
  granitemoe.model_type = "granitemoe";
  granitemoe.class_name = "GraniteMoeForCausalLM";
  granitemoe.gguf_name = "granitemoe";
  granitemoe.experts = true;
  granitemoe.fused_experts = true;
  granitemoe.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    read_multipliers(fields, config);
    read_experts(fields, "intermediate_size", config);
  };
  granitemoe.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    write_multipliers(config, json);
    json["num_local_experts"] = config.experts.count;
    json["num_experts_per_tok"] = config.experts.used;
  };
  granitemoe.read_gguf = read_gguf_multipliers;
  granitemoe.gguf_keys = multiplier_keys;
  granitemoe.gguf_refusal = [](const ModelConfig& config) { return expert_gguf_refusal(config, true); };
  granitemoe.tensors = [](const ModelConfig& config, int layer) {
    return pre_norm_expert_tensors(config, layer, true, granite_expert_names());
  };
  granitemoe.plan = [](const ModelConfig& config, int layer) {
    return pre_norm_expert_plan(config, layer, granite_expert_names());
  };
  return granitemoe;
}

}  // namespace strata
