#include "strata/model/architectures/common.h"

namespace strata {

// Llama with biases on q, k and v.
Architecture seed_oss() {
  Architecture seed_oss;
  seed_oss.model_type = "seed_oss";
  seed_oss.class_name = "SeedOssForCausalLM";
  seed_oss.gguf_name = "seed_oss";
  seed_oss.defaults = {{"head_dim", 128}, {"attention_bias", true}, {"num_key_value_heads", 8}};
  seed_oss.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    config.attention_bias = fields.flag("attention_bias", false);
    config.output_bias = fields.flag("attention_out_bias", false);
    config.mlp_bias = fields.flag("mlp_bias", false);
  };
  seed_oss.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["attention_bias"] = config.attention_bias;
    json["attention_out_bias"] = config.output_bias;
    json["mlp_bias"] = config.mlp_bias;
  };
  seed_oss.gguf_refusal = plain_gguf_refusal;
  seed_oss.tensors = [](const ModelConfig& config, int) {
    std::vector<LayerTensor> tensors = pre_norm_tensors(config, false);
    for (LayerTensor& tensor : tensors)
      if (tensor.gguf_name == "ffn_norm") tensor.gguf_name = "post_attention_norm";
    return tensors;
  };
  seed_oss.plan = pre_norm_plan;
  return seed_oss;
}

}  // namespace strata
