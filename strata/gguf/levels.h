#pragma once

#include <cstddef>
#include <cstdint>

#include "strata/gguf/type.h"

namespace strata {

// A GGUF block as scales, which are decided for all of it, and codes, one a weight.

// The values that 16 neighbouring weights of a block can take: scale * level(code) - min.
struct BlockLevels {
  float scale[16], min[16];  // entry i is for weights 16 i to 16 i + 15 of the block
};

// Whether a type has blocks whose weights have no codes of their own: eight or four of them are one point of
// a grid (and IQ4_XS, which is treated alike).
bool takes_whole_blocks(GgufType type);

// The following are for the other types with blocks.
void read_levels(GgufType type, const std::byte* block, BlockLevels& levels);

// The code whose value is nearest to x.
uint8_t nearest_code(GgufType type, float x, float scale, float min);

// The value of a code, exactly as decode_gguf gives it.
float value_of_code(GgufType type, uint8_t code, float scale, float min);

// Replaces the codes of a block (block_elements of them) and leaves its scales.
void write_codes(GgufType type, const uint8_t* codes, std::byte* block);

}  // namespace strata
