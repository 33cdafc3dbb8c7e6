#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "strata/core/dtype.h"
#include "strata/gguf/levels.h"
#include "strata/gguf/type.h"

namespace strata {

// A block as the numbers that it stores: x = d scale level(code) - dmin min, with the scale and min of the
// weight's sub-block.
struct StoredBlock {
  uint8_t codes[256];
  int16_t scales[16], mins[16];  // one a sub-block; 1 where a type has none of its own
  float d, dmin;                 // fp16 numbers; dmin is 0 in types without
};

// What a type whose weights have codes of their own does with these, a block at a time.
struct GgufCodes {
  CodeLevels levels;
  int sub_block;  // weights that share a scale
  bool has_min;
  void (*read_levels)(const std::byte* block, BlockLevels& levels);
  void (*write_codes)(const uint8_t* codes, std::byte* block);  // block_elements codes; scales stay
  void (*read)(const std::byte* block, StoredBlock& stored);
  void (*write)(const StoredBlock& stored, std::byte* block);  // codes, d and dmin; scales and mins stay
};

// What a type does with a row of blocks, on the calling thread.
struct GgufCodec {
  int block_elements, block_bytes;
  void (*decode)(const std::byte* blocks, int64_t n, float* weights);
  // `importance` comes from arrange_importance (codec.h); null for none.
  void (*encode)(const float* weights, int64_t cols, const float* importance, std::byte* blocks);
  // Weights of a sub-block whose importance the encoder reads in lanes, beside those of seven other
  // sub-blocks (lanes-inl.h); 0 for an encoder that reads it in the order of the columns.
  int lane_weights;
  const GgufCodes* codes;  // null: takes whole blocks, or has none
  // Whether n weights all are finite numbers, by what their blocks store in floats.
  bool (*finite)(const std::byte* blocks, int64_t n);
};

// Throws Error for a type that is only carried along.
const GgufCodec& codec_of(GgufType type);

// A type with blocks is a struct of its bytes that says
//   elements       weights in a block
//   Fields         a struct with one element a field, and
//   pack, unpack   between the two.
// The functions below are made from these.

template <class Block>
typename Block::Fields unpack_block(const std::byte* bytes) {
  Block block;
  std::memcpy(&block, bytes, sizeof(Block));
  typename Block::Fields fields;
  unpack(block, fields);
  return fields;
}

template <class Block>
void pack_block(const typename Block::Fields& fields, std::byte* bytes) {
  Block block;
  pack(fields, block);
  std::memcpy(bytes, &block, sizeof(Block));
}

// Calls decode(fields of a block, its weights).
template <class Block, class Decode>
void for_blocks(const std::byte* bytes, int64_t n, float* weights, const Decode& decode) {
  for (int64_t i = 0; i < n; i += Block::elements, bytes += sizeof(Block))
    decode(unpack_block<Block>(bytes), weights + i);
}

// Whether the bits are of a finite fp16 number.
inline bool is_finite_half(uint16_t bits) {
  return (bits & 0x7C00) != 0x7C00;
}

// A block's fp16 number, `d` in all of them, and the other one of those that have a min.
template <class Block>
auto other_half(const Block& block, int) -> decltype(block.dmin) {
  return block.dmin;
}
template <class Block>
auto other_half(const Block& block, int) -> decltype(block.m) {
  return block.m;
}
template <class Block>
uint16_t other_half(const Block&, ...) {
  return 0;
}

// Codes and integer scales times finite halves are finite.
template <class Block>
bool finite_blocks(const std::byte* bytes, int64_t n) {
  bool finite = true;
  for (int64_t i = 0; i < n; i += Block::elements, bytes += sizeof(Block)) {
    Block block;
    std::memcpy(&block, bytes, sizeof(Block));
    finite &= is_finite_half(block.d) && is_finite_half(other_half(block, 0));
  }
  return finite;
}

// Where weights have codes of their own, a block also says
//   levels      what the codes stand for
//   sub_block   weights that share a scale
//   has_min     whether a min is taken off;
// its fields are `codes`, what fill_levels(fields, sub_block, BlockLevels) makes scales and mins of, and what
// read_scales(fields, StoredBlock) and write_floats(StoredBlock, fields) know.

template <class Block>
void decode_codes(const std::byte* bytes, int64_t n, float* weights) {
  constexpr int size = Block::sub_block;
  for_blocks<Block>(bytes, n, weights, [](const typename Block::Fields& fields, float* x) {
    BlockLevels levels;
    fill_levels(fields, size, levels);
    for (int first = 0; first < Block::elements; first += size) {
      const float scale = levels.scale[first / 16], min = levels.min[first / 16];
      for (int i = first; i < first + size; ++i)
        x[i] = value_of_code(Block::levels, fields.codes[i], scale, min);
    }
  });
}

template <class Block>
void read_levels(const std::byte* block, BlockLevels& levels) {
  fill_levels(unpack_block<Block>(block), Block::sub_block, levels);
}

template <class Block>
void write_codes(const uint8_t* codes, std::byte* block) {
  typename Block::Fields fields = unpack_block<Block>(block);
  std::memcpy(fields.codes, codes, sizeof(fields.codes));
  pack_block<Block>(fields, block);
}

template <class Block>
void read_stored(const std::byte* block, StoredBlock& stored) {
  const typename Block::Fields fields = unpack_block<Block>(block);
  std::memcpy(stored.codes, fields.codes, sizeof(fields.codes));
  read_scales(fields, stored);
}

template <class Block>
void write_stored(const StoredBlock& stored, std::byte* block) {
  typename Block::Fields fields = unpack_block<Block>(block);
  std::memcpy(fields.codes, stored.codes, sizeof(fields.codes));
  write_floats(stored, fields);
  pack_block<Block>(fields, block);
}

template <class Block>
inline constexpr GgufCodes codes_of = {Block::levels,       Block::sub_block,    Block::has_min,
                                       &read_levels<Block>, &write_codes<Block>, &read_stored<Block>,
                                       &write_stored<Block>};

}  // namespace strata
