#pragma once

#include <cstddef>
#include <cstdint>

#include "strata/gguf/type.h"

namespace strata {

// Encodes `rows` rows of `cols` floats into GGUF blocks, in threads. The block size must divide cols; values
// must be finite. Minimises the squared error sum w (x - x')^2, where w is the column's `importance` (cols
// values, scaled within each block; negative ones count as zero) or one where that is null: unlike
// llama.cpp's encoders, which weigh by the size of the weights too, for K types even without importance.
// Weights beyond what a type's fp16 scales can express are clipped. The bytes do not depend on the number of
// threads, nor on the CPU beyond rounding of sums.
void encode_gguf(GgufType type, const float* weights, int64_t rows, int64_t cols, const float* importance,
                 std::byte* blocks);

// Decodes n weights (a multiple of the block size).
void decode_gguf(GgufType type, const std::byte* blocks, int64_t n, float* weights);

}  // namespace strata
