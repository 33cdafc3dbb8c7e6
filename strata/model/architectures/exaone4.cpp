#include "strata/model/architectures/common.h"

namespace strata {
namespace {

// llama.cpp's graph slides in models of so many layers alone, with this window where a file has none.
constexpr int64_t kSlidingLayers = 64, kWindow = 4096;

}  // namespace

// Norms stand behind the blocks and none before them, and on every query and key head; where layers slide,
// the others do not rotate.
Architecture exaone4() {
  Architecture exaone4;
  exaone4.model_type = "exaone4";
  exaone4.class_name = "Exaone4ForCausalLM";
  exaone4.gguf_name = "exaone4";
  exaone4.defaults = {{"rms_norm_eps", 1e-5}, {"sliding_window", kWindow}, {"num_key_value_heads", 32}};
  exaone4.complete = [](ModelConfig& config) {
    if (config.sliding_window > 0) config.rotating_layers = config.sliding_layers;
  };
  exaone4.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_sliding_pattern(fields, config, 4);
  };
  exaone4.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["sliding_window"] = config.sliding_window > 0 ? Json(config.sliding_window) : Json(nullptr);
    json["layer_types"] = layer_types_json(config);
  };
  exaone4.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    if (config.num_layers == kSlidingLayers) read_gguf_sliding_period(keys, config, 4, kWindow);
  };
  exaone4.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys;
    write_sliding_period(config, keys);
    return keys;
  };
  exaone4.gguf_refusal = [](const ModelConfig& config) {
    if (config.sliding_window > 0 && config.num_layers != kSlidingLayers)
      return std::string("sliding layers that are not 64");
    if (config.sliding_window > 0 && !sliding_period(config))
      return std::string("sliding layers that follow no period");
    if (config.num_heads * config.head_dim != config.hidden_size)
      return std::string("heads that are not the hidden size together");
    if (config.output_bias || config.mlp_bias) return std::string("biases");
    return std::string();
  };
  exaone4.tensors = [](const ModelConfig& config, int) {
    std::vector<LayerTensor> tensors = separate_attention(config, false);
    tensors.push_back(norm("self_attn.q_norm", "attn_q_norm", config.head_dim));
    tensors.push_back(norm("self_attn.k_norm", "attn_k_norm", config.head_dim));
    tensors.push_back(norm("post_attention_layernorm", "post_attention_norm", config.hidden_size));
    for (LayerTensor& matrix : separate_feed_forward(config)) tensors.push_back(std::move(matrix));
    tensors.push_back(norm("post_feedforward_layernorm", "post_ffw_norm", config.hidden_size));
    return tensors;
  };
  exaone4.plan = [](const ModelConfig& config, int layer) {
    AttentionPlan attention = separate_attention_plan(config, layer);
    attention.q_norm = "self_attn.q_norm";
    attention.k_norm = "self_attn.k_norm";
    return LayerPlan{{{"", "post_attention_layernorm", attention},
                      {"", "post_feedforward_layernorm", separate_feed_forward_plan()}}};
  };
  return exaone4;
}

}  // namespace strata
