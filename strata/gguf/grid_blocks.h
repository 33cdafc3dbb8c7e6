#pragma once

#include <cstdint>

#include "strata/gguf/type.h"

namespace strata {

// Blocks of 256 whose weights are points of a grid with signs: x = sign point d k (2 s + 1), with a scale s
// of 4 bits for every sub-block.

// 8 sub-blocks of 32: four bytes with the points of 8 weights each, then a word with four times 7 signs (the
// eighth makes the number of minus signs even) and s on top. k = 1/8.
struct BlockIQ2_XXS {
  uint16_t d;
  uint8_t fields[64];
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

// 16 sub-blocks of 16: words of 9 bits for the point and 7 for signs; s in nibbles. k = 1/8.
struct BlockIQ2_XS {
  uint16_t d;
  uint16_t points[32];
  uint8_t scales[8];
};
static_assert(sizeof(BlockIQ2_XS) == 74);

// 16 sub-blocks of 16: low bytes of the points, a byte of signs for every 8 weights, two high bits of the
// points in pairs, s in nibbles. k = 1/8.
struct BlockIQ2_S {
  uint16_t d;
  uint8_t points[32], signs[32], high[8], scales[8];
};
static_assert(sizeof(BlockIQ2_S) == 82);

// 8 sub-blocks of 32: bytes with the points of 4 weights each, then for every sub-block a word as in IQ2_XXS.
// k = 1/4.
struct BlockIQ3_XXS {
  uint16_t d;
  uint8_t points[64], fields[32];
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

// 8 sub-blocks of 32: low bytes of the points, their ninth bits, a byte of signs for every 8 weights, s in
// nibbles. k = 1.
struct BlockIQ3_S {
  uint16_t d;
  uint8_t points[64], high[8], signs[32], scales[4];
};
static_assert(sizeof(BlockIQ3_S) == 110);

// One such block with a field an element. Groups are of 8 weights (IQ2) or 4 (IQ3).
struct GridFields {
  uint16_t d = 0;
  uint16_t points[64] = {};  // by group
  uint8_t signs[32] = {};    // by 8 weights; bit i set: weight i is negative
  uint8_t scales[16] = {};   // by sub-block
};

struct GridTraits {
  int sub_block;    // weights sharing a scale
  float unit;       // k
  bool even_signs;  // the number of minus signs of 8 weights must be even
};

GridTraits grid_traits(GgufType type);
bool is_grid_type(GgufType type);

void pack_grid(GgufType type, const GridFields& fields, uint8_t* block);
void unpack_grid(GgufType type, const uint8_t* block, GridFields& fields);

// Decodes a block of a grid type.
void decode_grid(GgufType type, const uint8_t* block, float* weights);

}  // namespace strata
