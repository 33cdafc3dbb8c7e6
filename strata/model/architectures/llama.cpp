#include "strata/model/architectures/common.h"

namespace strata {

Architecture llama() {
  Architecture llama;
  llama.model_type = "llama";
  llama.class_name = "LlamaForCausalLM";
  llama.gguf_name = "llama";
  llama.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    config.mlp_bias = fields.flag("mlp_bias", false);
  };
  llama.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    json["mlp_bias"] = config.mlp_bias;
  };
  llama.tensors = [](const ModelConfig& config, int) { return pre_norm_tensors(config, true); };
  llama.plan = pre_norm_plan;
  return llama;
}

}  // namespace strata
