#pragma once

#include <cstddef>
#include <cstdint>

#include "strata/quantization/gguf_type.h"

namespace strata {

// Encodes `rows` rows of `cols` floats into GGUF blocks, in threads. `importance` (cols values, one for each
// input feature, or null) weighs the squared error of each column. The block size must divide cols; values
// must be finite. The bytes do not depend on the number of threads or on the CPU's vector width beyond
// rounding of sums.
void encode_gguf(GgufType type, const float* weights, int64_t rows, int64_t cols, const float* importance,
                 std::byte* blocks);

// Decodes n weights (a multiple of the block size).
void decode_gguf(GgufType type, const std::byte* blocks, int64_t n, float* weights);

}  // namespace strata
