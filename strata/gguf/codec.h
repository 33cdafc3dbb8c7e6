#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

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

// Whether n weights all decode to finite numbers, by the numbers that their blocks store.
bool is_finite_gguf(GgufType type, const std::byte* blocks, int64_t n);

// The two steps of encode_gguf. Importance of the columns in the order in which the encoder of `type` reads
// it, scaled to mean one in every block; empty for none, or where the type does not use it.
std::vector<float> arrange_importance(GgufType type, const float* importance, int64_t cols);

// Encodes one row on the calling thread; `arranged_importance` comes from arrange_importance, null for none.
void encode_row(GgufType type, const float* weights, int64_t cols, const float* arranged_importance,
                std::byte* blocks);

}  // namespace strata
