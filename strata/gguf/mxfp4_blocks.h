#pragma once

#include "strata/gguf/block_codec.h"

namespace strata {

// 32 weights in MXFP4 (OCP Microscaling Formats 1.0): x = 2^(exponent - 127) times a number of a sign, two
// bits of exponent and one of mantissa, of magnitude 0, 0.5, 1, 1.5, 2, 3, 4 or 6. Byte j holds codes j (low
// nibble) and j + 16 (high nibble); bit 3 of a code is the sign.
struct BlockMXFP4 {
  uint8_t exponent;
  uint8_t codes[16];
};
static_assert(sizeof(BlockMXFP4) == 17);

void decode_mxfp4(const std::byte* bytes, int64_t n, float* weights);
void encode_mxfp4(const float* weights, int64_t cols, const float* importance, std::byte* blocks);
bool finite_mxfp4(const std::byte* bytes, int64_t n);

inline constexpr GgufCodec mxfp4_codec = {32,      sizeof(BlockMXFP4), &decode_mxfp4, &encode_mxfp4, 0,
                                          nullptr, &finite_mxfp4};

}  // namespace strata
