#include "strata/model/stream.h"

namespace strata {
namespace {

// Of the layers that slide, or of those that do not.
int64_t keys_and_values(const ModelConfig& config, bool sliding) {
  for (auto layer = static_cast<int>(config.num_layers - config.kv_shared_layers); layer < config.num_layers;
       ++layer)
    if (config.slides(layer) == sliding) return 2 * config.kv_heads_of(layer) * config.head_dim_of(layer);
  return 0;
}

}  // namespace

CarriedPart carried_keys(const ModelConfig& config, int layer) {
  const bool slides = config.slides(layer);
  return {slides ? 0 : keys_and_values(config, true), keys_and_values(config, slides)};
}

CarriedPart carried_features(const ModelConfig& config, int layer) {
  const int64_t size = config.layer_embedding_size;
  return {changing_size(config) - config.hidden_size + layer * size, size};
}

int64_t stream_size(const ModelConfig& config) {
  return changing_size(config) + config.num_layers * config.layer_embedding_size;
}

int64_t changing_size(const ModelConfig& config) {
  return config.hidden_size + keys_and_values(config, true) + keys_and_values(config, false);
}

}  // namespace strata
