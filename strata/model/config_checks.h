#pragma once

#include <cstdint>
#include <string>

#include "strata/model/config.h"

namespace strata {

inline constexpr int64_t kMostLayers = 4096;  // far above any published model

// Throws unless the sizes are positive and small enough that no product of them overflows, query heads divide
// among key heads, an even number of features rotates and the rotary settings are usable. `where` names the
// source of the config in messages.
void check_config(const ModelConfig& config, const std::string& where);

}  // namespace strata
