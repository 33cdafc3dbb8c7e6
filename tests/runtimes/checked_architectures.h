#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "strata/model/model.h"

namespace strata {

// Whether its layers see all tokens in llama.cpp, which has no place for their window.
inline bool llama_cpp_loses_window(const ModelConfig& config) {
  return config.sliding_window > 0 && !architecture_of(config).gguf_slides;
}

// Whether llama.cpp computes what strata does from a GGUF of the model, which the runtime test then shows.
inline bool llama_cpp_agrees_on(const ModelConfig& config) {
  return gguf_refusal_of(config).empty() && !llama_cpp_loses_window(config);
}

// Whether mlx-lm can load an MLX directory of this model of tests/data/architectures. It parts gate and up of
// Granite 4, and renames LFM2's matrices beside experts, where they are not quantized only; its classes of
// the others want a head that is not the embedding, or YaRN, which these small models do not have.
inline bool mlx_agrees_on(const std::string& name) {
  static const std::vector<std::string> others = {
      "granite4", "granite4-moe", "lfm2-moe", "deepseek-v2", "deepseek-v2-groups", "deepseek-v3", "glm4-moe"};
  return std::find(others.begin(), others.end(), name) == others.end();
}

}  // namespace strata
