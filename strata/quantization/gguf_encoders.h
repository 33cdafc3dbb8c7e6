#pragma once

#include <cstddef>
#include <cstdint>

#include "strata/quantization/gguf_type.h"

namespace strata {

// Encodes one row; see encode_gguf.
void encode_row(GgufType type, const float* weights, int64_t cols, const float* importance,
                std::byte* blocks);

}  // namespace strata
