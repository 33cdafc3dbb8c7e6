#pragma once

#include <cstdint>

namespace strata {

// The dense stream of GPTQ, compressed-tensors and MLX: code i takes bits [i*bits, (i+1)*bits), counted from
// the least significant bit of little-endian 32-bit words. 1 <= bits <= 8.
int64_t packed_words(int64_t count, int bits);
void pack_codes(const uint8_t* codes, int64_t count, int bits, uint32_t* words);  // writes packed_words words
void unpack_codes(const uint32_t* words, int64_t count, int bits, uint8_t* codes);

}  // namespace strata
