#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "strata/gguf/type.h"

namespace strata {

// Importance of the columns in the order in which the encoders of `type` read it, scaled to mean one in every
// block; empty for none, or where the type does not use it.
std::vector<float> arrange_importance(GgufType type, const float* importance, int64_t cols);

// Encodes one row on the calling thread; see encode_gguf. `arranged_importance` comes from
// arrange_importance; null for none.
void encode_row(GgufType type, const float* weights, int64_t cols, const float* arranged_importance,
                std::byte* blocks);

}  // namespace strata
