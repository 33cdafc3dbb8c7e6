#pragma once

#include <algorithm>

#include "strata/gguf/block_codec.h"
#include "strata/gguf/search.h"

namespace strata {

// Blocks of 32 weights with one scale, byte by byte, in the order of their fields in the file (little-endian;
// 16-bit fields are the bits of fp16 numbers). Codes are written q.

// One such block with a field an element. Codes are unsigned, in the order of the weights.
struct FieldsOf32 {
  uint8_t codes[32];
  uint16_t d, m;  // m of types with an offset, which is added; else 0
};

struct BlockOf32 {
  using Fields = FieldsOf32;
  static constexpr int elements = 32, sub_block = 32;
  static constexpr bool has_min = false;
};

// x = q d, q in [-127, 127].
struct BlockQ8_0 : BlockOf32 {
  uint16_t d;
  int8_t codes[32];

  static constexpr CodeLevels levels = {127, 254};
  static constexpr auto& search = tuning::q8_0;
};
static_assert(sizeof(BlockQ8_0) == 34);

// x = (q - 8) d. Byte j holds codes j (low nibble) and j + 16 (high nibble), as in all that follow.
struct BlockQ4_0 : BlockOf32 {
  uint16_t d;
  uint8_t codes[16];

  static constexpr CodeLevels levels = {8, 15};
  static constexpr auto& search = tuning::q4_0;
};
static_assert(sizeof(BlockQ4_0) == 18);

// x = q d + m.
struct BlockQ4_1 : BlockOf32 {
  uint16_t d, m;
  uint8_t codes[16];

  static constexpr bool has_min = true;
  static constexpr CodeLevels levels = {0, 15};
  static constexpr auto& search = tuning::q4_1;
};
static_assert(sizeof(BlockQ4_1) == 20);

// x = (q - 16) d. Bit j of the 32 high bits is the fifth bit of code j.
struct BlockQ5_0 : BlockOf32 {
  uint16_t d;
  uint8_t high[4];
  uint8_t codes[16];

  static constexpr CodeLevels levels = {16, 31};
  static constexpr auto& search = tuning::q5_0;
};
static_assert(sizeof(BlockQ5_0) == 22);

// x = q d + m.
struct BlockQ5_1 : BlockOf32 {
  uint16_t d, m;
  uint8_t high[4];
  uint8_t codes[16];

  static constexpr bool has_min = true;
  static constexpr CodeLevels levels = {0, 31};
  static constexpr auto& search = tuning::q5_1;
};
static_assert(sizeof(BlockQ5_1) == 24);

// x = iq4_nl_values[q] d.
struct BlockIQ4_NL : BlockOf32 {
  uint16_t d;
  uint8_t codes[16];

  static constexpr CodeLevels levels = {0, 15, &iq4_nl_values};
  static constexpr auto& search = tuning::iq4_nl;
};
static_assert(sizeof(BlockIQ4_NL) == 18);

void pack(const FieldsOf32& fields, BlockQ8_0& block);
void pack(const FieldsOf32& fields, BlockQ4_0& block);
void pack(const FieldsOf32& fields, BlockQ4_1& block);
void pack(const FieldsOf32& fields, BlockQ5_0& block);
void pack(const FieldsOf32& fields, BlockQ5_1& block);
void pack(const FieldsOf32& fields, BlockIQ4_NL& block);

void unpack(const BlockQ8_0& block, FieldsOf32& fields);
void unpack(const BlockQ4_0& block, FieldsOf32& fields);
void unpack(const BlockQ4_1& block, FieldsOf32& fields);
void unpack(const BlockQ5_0& block, FieldsOf32& fields);
void unpack(const BlockQ5_1& block, FieldsOf32& fields);
void unpack(const BlockIQ4_NL& block, FieldsOf32& fields);

void pack_nibbles(const uint8_t codes[32], uint8_t bytes[16]);  // the low four bits of each code
void unpack_nibbles(const uint8_t bytes[16], uint8_t codes[32]);

inline void fill_levels(const FieldsOf32& fields, int, BlockLevels& levels) {
  std::fill_n(levels.scale, 2, half_to_float(fields.d));
  std::fill_n(levels.min, 2, fields.m == 0 ? 0 : -half_to_float(fields.m));
}

inline void read_scales(const FieldsOf32& fields, StoredBlock& stored) {
  stored.scales[0] = stored.mins[0] = 1;
  stored.d = half_to_float(fields.d);
  stored.dmin = -half_to_float(fields.m);
}

inline void write_floats(const StoredBlock& stored, FieldsOf32& fields) {
  fields.d = float_to_half(stored.d);
  fields.m = float_to_half(-stored.dmin);
}

// The bytes of Q8_0 are its levels: faster than by way of codes, and of the same values.
template <>
inline void decode_codes<BlockQ8_0>(const std::byte* bytes, int64_t n, float* weights) {
  for (int64_t i = 0; i < n; i += 32, bytes += sizeof(BlockQ8_0)) {
    BlockQ8_0 block;
    std::memcpy(&block, bytes, sizeof(block));
    const float d = half_to_float(block.d);
    for (int k = 0; k < 32; ++k) weights[i + k] = d * static_cast<float>(block.codes[k]);
  }
}

// Encodes a row eight blocks at a time.
template <class Block>
void encode_blocks_of_32(const float* weights, int64_t cols, const float* importance, std::byte* blocks) {
  constexpr int64_t group = 8 * 32;
  for (int64_t i = 0; i < cols; i += group) {
    const int64_t present = std::min(group, cols - i);
    const float* x = weights + i;
    float padded[group];
    if (present < group) {
      std::fill(std::copy_n(x, present, padded), padded + group, 0.0f);
      x = padded;
    }
    FieldsOf32 fields[8];
    search_eight_blocks(Block::levels, Block::search, x, importance ? importance + i : nullptr, fields);
    Block packed[8];
    for (int k = 0; k < 8; ++k) pack(fields[k], packed[k]);
    std::memcpy(blocks + i / 32 * static_cast<int64_t>(sizeof(Block)), packed,
                static_cast<size_t>(present / 32) * sizeof(Block));
  }
}

template <class Block>
inline constexpr GgufCodec codec_of_32 = {32,
                                          sizeof(Block),
                                          &decode_codes<Block>,
                                          &encode_blocks_of_32<Block>,
                                          Block::sub_block,
                                          &codes_of<Block>,
                                          &finite_blocks<Block>};

}  // namespace strata
