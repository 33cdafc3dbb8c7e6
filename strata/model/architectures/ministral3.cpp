#include "strata/model/architectures/common.h"

namespace strata {

// Mistral with YaRN and queries that grow with their position.
Architecture ministral3() {
  Architecture ministral3;
  ministral3.model_type = "ministral3";
  ministral3.class_name = "Ministral3ForCausalLM";
  ministral3.gguf_name = "mistral3";
  ministral3.defaults = {{"head_dim", 128}, {"rms_norm_eps", 1e-5}, {"num_key_value_heads", 8}};
  ministral3.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_sliding_window(fields, config);
    const Json* found = fields.find("rope_parameters");
    if (found == nullptr) return;
    const ConfigFields rope(*found, fields.where() + ": rope_parameters");
    config.query_growth = rope.real("llama_4_scaling_beta", 0);
    config.query_growth_length = rope.integer("original_max_position_embeddings", 0);
  };
  ministral3.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["sliding_window"] = config.sliding_window > 0 ? Json(config.sliding_window) : Json(nullptr);
    Json rope = json["rope_scaling"].is_null() ? Json{{"rope_type", "default"}} : json["rope_scaling"];
    rope["rope_theta"] = config.rope.theta;
    rope["original_max_position_embeddings"] = config.query_growth_length;
    rope["llama_4_scaling_beta"] = config.query_growth;
    json["rope_parameters"] = rope;
    json.erase("rope_scaling");
  };
  ministral3.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    config.query_growth = keys.real("attention.temperature_scale", 0);
    config.query_growth_length =
        keys.integer("rope.scaling.original_context_length", config.max_position_embeddings);
  };
  ministral3.gguf_keys = [](const ModelConfig& config) {
    return std::vector<GgufKey>{
        {"attention.temperature_scale", gguf_f32(static_cast<float>(config.query_growth))}};
  };
  ministral3.gguf_refusal = [](const ModelConfig& config) {
    if (config.query_growth > 0 && config.rope.scaling.type != RopeScaling::Type::Yarn)
      return std::string("queries that grow without YaRN");
    return std::string(config.sliding_window > 0 ? "a sliding window" : "");
  };
  ministral3.tensors = [](const ModelConfig& config, int) { return pre_norm_tensors(config, true); };
  ministral3.plan = pre_norm_plan;
  return ministral3;
}

}  // namespace strata
