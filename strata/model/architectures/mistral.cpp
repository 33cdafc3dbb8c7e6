#include "strata/model/architectures/common.h"

namespace strata {

// Llama with a sliding window in every layer, or in those that layer_types names; llama.cpp knows it as
// Llama.
Architecture mistral() {
  Architecture mistral;
  mistral.model_type = "mistral";
  mistral.class_name = "MistralForCausalLM";
  mistral.gguf_slides = false;
  mistral.gguf_name = "llama";
  mistral.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_sliding_window(fields, config);
  };
  mistral.tensors = [](const ModelConfig& config, int) { return pre_norm_tensors(config, true); };
  mistral.plan = pre_norm_plan;
  return mistral;
}

}  // namespace strata
