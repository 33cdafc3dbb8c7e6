#include "strata/model/architectures/common.h"
#include "strata/model/architectures/olmo2.h"

namespace strata {

// OLMo 2 of which three of four layers slide; where the rope is scaled, it is so in the others only.
Architecture olmo3() {
  Architecture olmo3 = olmo2();
  olmo3.model_type = "olmo3";
  olmo3.class_name = "Olmo3ForCausalLM";
  olmo3.defaults.update({{"rope_theta", 500000.0}, {"sliding_window", 4096}});
  olmo3.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    read_sliding_pattern(fields, config, 4);
    if (!config.sliding_rope) config.sliding_rope = Rope{config.rope.theta, config.head_dim, {}};
  };
  olmo3.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    json["sliding_window"] = config.sliding_window;
    json["layer_types"] = layer_types_json(config);
  };
  olmo3.fits_gguf = [](const GgufKeys& keys) { return keys.integer("attention.sliding_window", 0) > 0; };
  olmo3.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    read_gguf_sliding_period(keys, config, 4);
    config.sliding_rope = Rope{keys.real("rope.freq_base", 10000), config.head_dim, {}};
  };
  olmo3.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys;
    write_sliding_period(config, keys);
    return keys;
  };
  olmo3.gguf_refusal = [](const ModelConfig& config) {
    const Rope& sliding = config.sliding_rope.value_or(config.rope);
    if (sliding.theta != config.rope.theta || sliding.scaling.type != RopeScaling::Type::None)
      return std::string("another rope in sliding layers");
    if (config.sliding_window > 0 && !sliding_period(config))
      return std::string("sliding layers that follow no period");
    return olmo2().gguf_refusal(config);
  };
  return olmo3;
}

}  // namespace strata
