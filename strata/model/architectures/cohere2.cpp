#include "strata/core/error.h"
#include "strata/model/architectures/common.h"

namespace strata {

// Attention and feed-forward in parallel behind one LayerNorm; layers slide and rotate, neighbouring features
// together, but for every fourth, which does neither.
Architecture cohere2() {
  Architecture cohere2;
  cohere2.model_type = "cohere2";
  cohere2.class_name = "Cohere2ForCausalLM";
  cohere2.gguf_name = "cohere2";
  cohere2.defaults = {{"logit_scale", 0.0625},
                      {"layer_norm_eps", 1e-5},
                      {"sliding_window", 4096},
                      {"tie_word_embeddings", true}};
  cohere2.complete = [](ModelConfig& config) {
    config.norm = ModelConfig::Norm::Layer;
    config.rope.neighbours = true;
    config.rotating_layers = config.sliding_layers;
  };
  cohere2.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    config.rms_norm_eps = fields.real("layer_norm_eps", 1e-5);
    config.logit_scale = fields.real("logit_scale", 1);
    read_sliding_pattern(fields, config, 4);
    if (config.sliding_window == 0)
      fail("{}: a cohere2 model without sliding_window is not known", fields.where());
  };
  cohere2.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    json["layer_norm_eps"] = config.rms_norm_eps;
    json["logit_scale"] = config.logit_scale;
    json["sliding_window"] = config.sliding_window;
    json["layer_types"] = layer_types_json(config);
  };
  cohere2.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    config.logit_scale = keys.real("logit_scale", 1);
    read_gguf_sliding_period(keys, config, 4);
  };
  cohere2.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys = {{"logit_scale", gguf_f32(static_cast<float>(config.logit_scale))}};
    write_sliding_period(config, keys);
    return keys;
  };
  cohere2.gguf_refusal = [](const ModelConfig& config) {
    if (config.attention_bias) return std::string("biases in attention");
    if (!config.tied_embeddings) return std::string("a head of its own");
    if (config.sliding_window == 0 || !sliding_period(config))
      return std::string("sliding layers that follow no period");
    if (config.num_heads * config.head_dim != config.hidden_size)
      return std::string("heads that are not the hidden size together");
    return plain_gguf_refusal(config);
  };
  cohere2.tensors = [](const ModelConfig& config, int) {
    std::vector<LayerTensor> tensors = {norm("input_layernorm", "attn_norm", config.hidden_size)};
    for (LayerTensor& matrix : separate_attention(config, false)) tensors.push_back(std::move(matrix));
    for (LayerTensor& matrix : separate_feed_forward(config)) tensors.push_back(std::move(matrix));
    return tensors;
  };
  cohere2.plan = [](const ModelConfig& config, int layer) {
    return LayerPlan{{{"input_layernorm", "",
                       ParallelPlan{separate_attention_plan(config, layer), separate_feed_forward_plan()}}}};
  };
  return cohere2;
}

}  // namespace strata
