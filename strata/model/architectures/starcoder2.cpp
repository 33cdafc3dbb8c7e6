#include "strata/model/architectures/common.h"

namespace strata {

// LayerNorm, biases everywhere, and a feed-forward block without a gate.
Architecture starcoder2() {
  Architecture starcoder2;
  starcoder2.model_type = "starcoder2";
  starcoder2.class_name = "Starcoder2ForCausalLM";
  starcoder2.gguf_slides = false;
  starcoder2.gguf_name = "starcoder2";
  starcoder2.defaults = {{"num_key_value_heads", 2}, {"norm_epsilon", 1e-5}, {"tie_word_embeddings", true}};
  starcoder2.activations = {"gelu_pytorch_tanh"};
  starcoder2.complete = [](ModelConfig& config) {
    config.norm = ModelConfig::Norm::Layer;
    config.norm_bias = true;
  };
  starcoder2.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    config.attention_bias = config.output_bias = config.mlp_bias = fields.flag("use_bias", true);
    config.rms_norm_eps = fields.real("norm_epsilon", 1e-5);
    read_sliding_window(fields, config);
  };
  starcoder2.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["use_bias"] = config.mlp_bias;
    json["norm_epsilon"] = config.rms_norm_eps;
    json["sliding_window"] = config.sliding_window > 0 ? Json(config.sliding_window) : Json(nullptr);
  };
  starcoder2.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    config.mlp_bias = keys.file().find_tensor("blk.0.ffn_up.bias") != nullptr;
  };
  starcoder2.gguf_refusal = [](const ModelConfig& config) {
    if (!config.mlp_bias) return std::string("no biases");
    if (config.num_heads * config.head_dim != config.hidden_size)
      return std::string("heads that are not the hidden size together");
    ModelConfig without_biases = config;
    without_biases.output_bias = without_biases.mlp_bias = false;
    return plain_gguf_refusal(without_biases);
  };
  starcoder2.tensors = [](const ModelConfig& c, int) {
    std::vector<LayerTensor> tensors = {norm("input_layernorm", "attn_norm", c.hidden_size, true)};
    for (LayerTensor& matrix : separate_attention(c, false)) tensors.push_back(std::move(matrix));
    tensors.push_back(norm("post_attention_layernorm", "ffn_norm", c.hidden_size, true));
    tensors.push_back(matrix("mlp.c_fc", "ffn_up", Role::Up, c.intermediate_size, c.hidden_size, c.mlp_bias));
    tensors.push_back(
        matrix("mlp.c_proj", "ffn_down", Role::Down, c.hidden_size, c.intermediate_size, c.mlp_bias));
    return tensors;
  };
  starcoder2.plan = [](const ModelConfig& config, int layer) {
    return LayerPlan{{{"input_layernorm", "", separate_attention_plan(config, layer)},
                      {"post_attention_layernorm", "",
                       FeedForwardPlan{{"mlp.c_fc"}, "mlp.c_proj", Activation::Gelu, false}}}};
  };
  return starcoder2;
}

}  // namespace strata
