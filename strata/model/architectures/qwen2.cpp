#include <fmt/format.h>

#include "strata/model/architectures/common.h"

namespace strata {

// Llama with biases on q, k and v and, where asked for, a sliding window in the later layers.
Architecture qwen2() {
  Architecture qwen2;
  qwen2.model_type = "qwen2";
  qwen2.class_name = "Qwen2ForCausalLM";
  qwen2.gguf_slides = false;
  qwen2.gguf_name = "qwen2";
  qwen2.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    config.attention_bias = true;
    read_late_sliding_window(fields, config);
  };
  qwen2.gguf_refusal = [](const ModelConfig& config) {
    if (std::string refusal = plain_gguf_refusal(config); !refusal.empty()) return refusal;
    if (config.head_dim * config.num_heads == config.hidden_size) return std::string();
    return fmt::format("{} heads of {} beside a hidden size of {}", config.num_heads, config.head_dim,
                       config.hidden_size);
  };
  qwen2.tensors = [](const ModelConfig& config, int) { return pre_norm_tensors(config, false); };
  qwen2.plan = pre_norm_plan;
  return qwen2;
}

}  // namespace strata
