#pragma once

#include "strata/gguf/block_codec.h"
#include "strata/gguf/grid_search.h"
#include "strata/gguf/grids.h"

namespace strata {

// Blocks of 256 whose weights are points of a grid with signs: x = sign point d k (2 s + 1), with a scale s
// of 4 bits for every sub-block.

// One such block with a field an element. Groups are of 8 weights (IQ2) or 4 (IQ3).
struct GridFields {
  uint16_t d = 0;
  uint16_t points[64] = {};  // by group
  uint8_t signs[32] = {};    // by 8 weights; bit i set: weight i is negative
  uint8_t scales[16] = {};   // by sub-block
};

struct GridBlock {
  using Fields = GridFields;
  static constexpr int elements = 256;
};

// 8 sub-blocks of 32: four bytes with the points of 8 weights each, then a word with four times 7 signs (the
// eighth makes the number of minus signs even) and s on top. k = 1/8.
struct BlockIQ2_XXS : GridBlock {
  uint16_t d;
  uint8_t fields[64];

  static constexpr auto grid = &iq2_xxs_grid;
  static constexpr GridScaling scaling = {32, 0.125f, true};
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

// 16 sub-blocks of 16: words of 9 bits for the point and 7 for signs; s in nibbles. k = 1/8.
struct BlockIQ2_XS : GridBlock {
  uint16_t d;
  uint16_t points[32];
  uint8_t scales[8];

  static constexpr auto grid = &iq2_xs_grid;
  static constexpr GridScaling scaling = {16, 0.125f, true};
};
static_assert(sizeof(BlockIQ2_XS) == 74);

// 16 sub-blocks of 16: low bytes of the points, a byte of signs for every 8 weights, two high bits of the
// points in pairs, s in nibbles. k = 1/8.
struct BlockIQ2_S : GridBlock {
  uint16_t d;
  uint8_t points[32], signs[32], high[8], scales[8];

  static constexpr auto grid = &iq2_s_grid;
  static constexpr GridScaling scaling = {16, 0.125f, false};
};
static_assert(sizeof(BlockIQ2_S) == 82);

// 8 sub-blocks of 32: bytes with the points of 4 weights each, then for every sub-block a word as in IQ2_XXS.
// k = 1/4.
struct BlockIQ3_XXS : GridBlock {
  uint16_t d;
  uint8_t points[64], fields[32];

  static constexpr auto grid = &iq3_xxs_grid;
  static constexpr GridScaling scaling = {32, 0.25f, true};
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

// 8 sub-blocks of 32: low bytes of the points, their ninth bits, a byte of signs for every 8 weights, s in
// nibbles. k = 1.
struct BlockIQ3_S : GridBlock {
  uint16_t d;
  uint8_t points[64], high[8], signs[32], scales[4];

  static constexpr auto grid = &iq3_s_grid;
  static constexpr GridScaling scaling = {32, 1, false};
};
static_assert(sizeof(BlockIQ3_S) == 110);

void pack(const GridFields& fields, BlockIQ2_XXS& block);
void pack(const GridFields& fields, BlockIQ2_XS& block);
void pack(const GridFields& fields, BlockIQ2_S& block);
void pack(const GridFields& fields, BlockIQ3_XXS& block);
void pack(const GridFields& fields, BlockIQ3_S& block);

void unpack(const BlockIQ2_XXS& block, GridFields& fields);
void unpack(const BlockIQ2_XS& block, GridFields& fields);
void unpack(const BlockIQ2_S& block, GridFields& fields);
void unpack(const BlockIQ3_XXS& block, GridFields& fields);
void unpack(const BlockIQ3_S& block, GridFields& fields);

// The 256 weights of a block.
void decode_points(const GridFields& fields, const Grid& grid, GridScaling scaling, float* weights);

template <class Block>
void decode_grid_blocks(const std::byte* bytes, int64_t n, float* weights) {
  const Grid& grid = Block::grid();
  for_blocks<Block>(bytes, n, weights, [&](const GridFields& fields, float* x) {
    decode_points(fields, grid, Block::scaling, x);
  });
}

template <class Block>
void encode_grid_blocks(const float* weights, int64_t cols, const float* importance, std::byte* blocks) {
  const Grid& grid = Block::grid();
  for (int64_t i = 0; i < cols; i += 256, blocks += sizeof(Block)) {
    GridFields fields;
    search_grid_block(grid, Block::scaling, weights + i, importance ? importance + i : nullptr, fields);
    pack_block<Block>(fields, blocks);
  }
}

template <class Block>
inline constexpr GgufCodec grid_codec = {
    256, sizeof(Block), &decode_grid_blocks<Block>, &encode_grid_blocks<Block>,
    0,   nullptr,       &finite_blocks<Block>};

}  // namespace strata
