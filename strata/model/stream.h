#pragma once

#include <cstdint>

#include "strata/model/config.h"

// What goes from layer to layer: of every token its hidden state and, in architectures whose layers read more
// than that, behind it what is carried for later ones: first keys and values that layers share, then the
// features that each layer reads of an embedding of its own, which no layer changes.
namespace strata {

// Features of what is carried, counted from behind the hidden state; size 0: none.
struct CarriedPart {
  int64_t first = 0, size = 0;
};

// Keys, as they are attended to, and behind them values, that the last layers of this one's kind share.
CarriedPart carried_keys(const ModelConfig& config, int layer);

// What this layer reads of its embedding.
CarriedPart carried_features(const ModelConfig& config, int layer);

// Features of a token in the stream: hidden_size where nothing is carried; and those that layers change.
int64_t stream_size(const ModelConfig& config);
int64_t changing_size(const ModelConfig& config);

}  // namespace strata
