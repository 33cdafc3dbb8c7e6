#include "strata/model/config.h"

#include <cmath>

#include "strata/core/error.h"

namespace strata {

double AttentionScores::scale_for(int64_t head_dim) const {
  return scale > 0 ? scale : 1 / std::sqrt(static_cast<double>(head_dim));
}

bool ModelConfig::slides(int layer) const {
  return sliding_window > 0 && (sliding_layers.empty() || sliding_layers.at(static_cast<size_t>(layer)));
}

int64_t ModelConfig::head_dim_of(int layer) const {
  return sliding_head_dim > 0 && slides(layer) ? sliding_head_dim : head_dim;
}

int64_t ModelConfig::kv_heads_of(int layer) const {
  return sliding_kv_heads > 0 && slides(layer) ? sliding_kv_heads : num_kv_heads;
}

AttentionScores ModelConfig::scores_of(int layer) const {
  return {slides(layer) ? sliding_window : 0, attention_scale, attention_softcap};
}

const Rope& ModelConfig::rope_of(int layer) const {
  static const Rope none;
  if (!rotating_layers.empty() && !rotating_layers.at(static_cast<size_t>(layer))) return none;
  return sliding_rope && slides(layer) ? *sliding_rope : rope;
}

bool ModelConfig::has_experts(int layer) const {
  return experts.count > 0 && (expert_layers.empty() || expert_layers.at(static_cast<size_t>(layer)));
}

bool ModelConfig::attends(int layer) const {
  return attention_layers.empty() || attention_layers.at(static_cast<size_t>(layer));
}

bool ModelConfig::shares_keys(int layer) const {
  return layer >= num_layers - kv_shared_layers;
}

int ModelConfig::key_layer(int layer) const {
  if (!shares_keys(layer)) return layer;
  int source = static_cast<int>(num_layers - kv_shared_layers) - 1;
  while (source >= 0 && slides(source) != slides(layer)) --source;
  return source;
}

int64_t ModelConfig::intermediate_size_of(int layer) const {
  return wide_sharing_layers && shares_keys(layer) ? 2 * intermediate_size : intermediate_size;
}

void slide_by_period(ModelConfig& config, int64_t period) {
  if (period < 1) fail("the pattern of sliding layers repeats after {} layers, expected 1 or more", period);
  config.sliding_layers.clear();
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    config.sliding_layers.push_back(layer % period < period - 1);
}

std::optional<int64_t> sliding_period(const ModelConfig& config) {
  for (int64_t period = 1; period <= config.num_layers + 1; ++period) {
    ModelConfig candidate = config;
    slide_by_period(candidate, period);
    bool equal = true;
    for (int layer = 0; equal && layer < config.num_layers; ++layer)
      equal = candidate.slides(layer) == config.slides(layer);
    if (equal) return period;
  }
  return std::nullopt;
}

}  // namespace strata
