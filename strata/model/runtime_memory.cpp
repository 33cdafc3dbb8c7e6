#include "strata/model/runtime_memory.h"

#include <algorithm>

namespace strata {
namespace {

constexpr int64_t kBatch = 512;  // llama.cpp's n_ubatch

int64_t padded(int64_t tokens) {
  constexpr int64_t kMultiple = 256;
  return (tokens + kMultiple - 1) / kMultiple * kMultiple;
}

// Numbers that a layer keeps of one token.
int64_t kept_of_token(const ModelConfig& config, int layer) {
  if (config.latent.rank > 0) return config.latent.rank + config.latent.turning_dim;
  return 2 * config.kv_heads_of(layer) * config.head_dim_of(layer);
}

// Numbers that a layer without attention keeps, whatever the length of the text.
int64_t kept_of_text(const ModelConfig& config) {
  const RecurrenceSizes& recurrence = config.recurrence;
  const int64_t channels =
      recurrence.value_heads > 0 ? recurrence.values() + 2 * recurrence.keys() : config.hidden_size;
  return std::max<int64_t>(0, config.convolution.width - 1) * channels +
         recurrence.value_heads * recurrence.key_dim * recurrence.value_dim;
}

}  // namespace

RuntimeMemory llama_cpp_memory(const ModelConfig& config, int64_t context, double cache_bits) {
  RuntimeMemory memory;
  const int64_t all = padded(context);
  int64_t cached = 0;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (!config.attends(layer)) {
      memory.state += 4 * static_cast<uint64_t>(kept_of_text(config));
    } else if (!config.shares_keys(layer)) {
      const int64_t tokens =
          config.slides(layer) ? std::min(all, padded(config.sliding_window + kBatch)) : all;
      cached += tokens * kept_of_token(config, layer);
    }
  }
  memory.cache = static_cast<uint64_t>(static_cast<double>(cached) * cache_bits / 8);
  const int64_t width = std::max({config.intermediate_size, config.experts.used * config.experts.width,
                                  config.num_heads * config.head_dim});
  const int64_t features = 4 * config.hidden_size + std::max(config.vocab_size, 2 * width);
  memory.buffers = static_cast<uint64_t>(4 * kBatch * features + 6 * kBatch * all);
  return memory;
}

}  // namespace strata
