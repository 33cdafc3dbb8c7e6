#pragma once

#include "strata/gguf/block_codec.h"
#include "strata/gguf/search.h"

namespace strata {

// Blocks of 256 weights in sub-blocks whose scales are integer multiples of an fp16 number, byte by byte, in
// the order of their fields in the file (little-endian; 16-bit fields are the bits of fp16 numbers). Codes
// are written q, their sub-block's fields s (scale) and m (min).

// One such block with a field an element: x = d scale level(code) - dmin min.
struct SuperBlockFields {
  uint8_t codes[256];  // unsigned, in the order of the weights
  int16_t scales[16];  // by sub-block
  int16_t mins[16];
  uint16_t d, dmin;  // dmin and mins are zero in types without
};

struct SuperBlock {
  using Fields = SuperBlockFields;
  static constexpr int elements = 256;
  static constexpr bool has_min = false;
};

// 16 sub-blocks of 16, x = d s q - dmin m; s in the low nibble, m in the high one. Byte l of half h holds
// the codes of weights 128 h + l, + 32, + 64 and + 96 in its four pairs of bits.
struct BlockQ2_K : SuperBlock {
  uint8_t scales_mins[16];
  uint8_t codes[64];
  uint16_t d, dmin;

  static constexpr int sub_block = 16;
  static constexpr bool has_min = true;
  static constexpr CodeLevels levels = {0, 3};
  static constexpr auto& search = tuning::q2_k;
};
static_assert(sizeof(BlockQ2_K) == 84);

// 16 sub-blocks of 16, x = d s (q - 4); s + 32 is stored. The low two bits of q lie as in Q2_K; bit b of
// high[l] is the third bit of weight 32 b + l. Scales: low nibbles of those of 0..7 and 8..15 in bytes 0..7,
// then their upper two bits, those of k, k + 4, k + 8 and k + 12 in byte 8 + k.
struct BlockQ3_K : SuperBlock {
  uint8_t high[32];
  uint8_t codes[64];
  uint8_t scales[12];
  uint16_t d;

  static constexpr int sub_block = 16;
  static constexpr CodeLevels levels = {4, 7};
  static constexpr auto& search = tuning::q3_k;
};
static_assert(sizeof(BlockQ3_K) == 110);

// 8 sub-blocks of 32, x = d s q - dmin m; s and m of 6 bits. Bytes 0..3 and 4..7 hold s and m of sub-blocks
// 0..3 in their low six bits; bytes 8..11 the low nibbles of s and m of sub-blocks 4..7, whose upper two bits
// stand on top of bytes 0..3 and 4..7. Byte l of quarter j holds codes 64 j + l and 64 j + 32 + l.
struct BlockQ4_K : SuperBlock {
  uint16_t d, dmin;
  uint8_t scales_mins[12];
  uint8_t codes[128];

  static constexpr int sub_block = 32;
  static constexpr bool has_min = true;
  static constexpr CodeLevels levels = {0, 15};
  static constexpr auto& search = tuning::q4_k;
};
static_assert(sizeof(BlockQ4_K) == 144);

// As Q4_K; bit b of high[l] is the fifth bit of weight 32 b + l.
struct BlockQ5_K : SuperBlock {
  uint16_t d, dmin;
  uint8_t scales_mins[12];
  uint8_t high[32];
  uint8_t codes[128];

  static constexpr int sub_block = 32;
  static constexpr bool has_min = true;
  static constexpr CodeLevels levels = {0, 31};
  static constexpr auto& search = tuning::q5_k;
};
static_assert(sizeof(BlockQ5_K) == 176);

// 16 sub-blocks of 16, x = d s (q - 32), s signed. In half h, byte l of its 64 low bytes holds the low
// nibbles of weights 128 h + l and + 64, byte l of its 32 high bytes the upper two bits of weights 128 h + l,
// + 32, + 64 and + 96.
struct BlockQ6_K : SuperBlock {
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  uint16_t d;

  static constexpr int sub_block = 16;
  static constexpr CodeLevels levels = {32, 63};
  static constexpr auto& search = tuning::q6_k;
};
static_assert(sizeof(BlockQ6_K) == 210);

// 8 sub-blocks of 32, x = iq4_nl_values[q] d s; of s + 32 the low nibbles in pairs, the upper two bits in
// scales_high; codes as in IQ4_NL.
struct BlockIQ4_XS : SuperBlock {
  uint16_t d, scales_high;
  uint8_t scales_low[4];
  uint8_t codes[128];

  static constexpr int sub_block = 32;
  static constexpr CodeLevels levels = {0, 15, &iq4_nl_values};
  static constexpr auto& search = tuning::iq4_xs;
};
static_assert(sizeof(BlockIQ4_XS) == 136);

void pack(const SuperBlockFields& fields, BlockQ2_K& block);
void pack(const SuperBlockFields& fields, BlockQ3_K& block);
void pack(const SuperBlockFields& fields, BlockQ4_K& block);
void pack(const SuperBlockFields& fields, BlockQ5_K& block);
void pack(const SuperBlockFields& fields, BlockQ6_K& block);
void pack(const SuperBlockFields& fields, BlockIQ4_XS& block);

void unpack(const BlockQ2_K& block, SuperBlockFields& fields);
void unpack(const BlockQ3_K& block, SuperBlockFields& fields);
void unpack(const BlockQ4_K& block, SuperBlockFields& fields);
void unpack(const BlockQ5_K& block, SuperBlockFields& fields);
void unpack(const BlockQ6_K& block, SuperBlockFields& fields);
void unpack(const BlockIQ4_XS& block, SuperBlockFields& fields);

inline void fill_levels(const SuperBlockFields& fields, int sub_block, BlockLevels& levels) {
  const float d = half_to_float(fields.d), dmin = fields.dmin == 0 ? 0 : half_to_float(fields.dmin);
  for (int i = 0; i < 16; ++i) {
    const int s = 16 * i / sub_block;
    levels.scale[i] = d * static_cast<float>(fields.scales[s]);
    levels.min[i] = dmin * static_cast<float>(fields.mins[s]);
  }
}

inline void read_scales(const SuperBlockFields& fields, StoredBlock& stored) {
  std::memcpy(stored.scales, fields.scales, sizeof(stored.scales));
  std::memcpy(stored.mins, fields.mins, sizeof(stored.mins));
  stored.d = half_to_float(fields.d);
  stored.dmin = half_to_float(fields.dmin);
}

inline void write_floats(const StoredBlock& stored, SuperBlockFields& fields) {
  fields.d = float_to_half(stored.d);
  fields.dmin = float_to_half(stored.dmin);
}

template <class Block>
void encode_super_blocks(const float* weights, int64_t cols, const float* importance, std::byte* blocks) {
  for (int64_t i = 0; i < cols; i += 256, blocks += sizeof(Block)) {
    SuperBlockFields fields;
    search_super_block(Block::levels, Block::sub_block, Block::search, weights + i,
                       importance ? importance + i : nullptr, fields);
    pack_block<Block>(fields, blocks);
  }
}

template <class Block>
inline constexpr GgufCodec super_block_codec = {256,
                                                sizeof(Block),
                                                &decode_codes<Block>,
                                                &encode_super_blocks<Block>,
                                                Block::sub_block,
                                                &codes_of<Block>,
                                                &finite_blocks<Block>};

// The same for a type that takes whole blocks.
template <class Block>
inline constexpr GgufCodec whole_super_block_codec = {
    256,     sizeof(Block),        &decode_codes<Block>, &encode_super_blocks<Block>, Block::sub_block,
    nullptr, &finite_blocks<Block>};

}  // namespace strata
