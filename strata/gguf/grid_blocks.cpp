#include "strata/gguf/grid_blocks.h"

#include <cstring>

#include "strata/core/dtype.h"

namespace strata {
namespace {

// 7 stored signs to 8: the last one makes their number even.
uint8_t all_signs(uint32_t stored) {
  const uint32_t seven = stored & 127;
  return static_cast<uint8_t>(seven | (static_cast<uint32_t>(__builtin_popcount(seven)) & 1) << 7);
}

// The word of IQ2_XXS and IQ3_XXS: four times 7 signs, and the scale.
uint32_t word_of(const GridFields& fields, int sub_block) {
  uint32_t word = static_cast<uint32_t>(fields.scales[sub_block]) << 28;
  for (int i = 0; i < 4; ++i) word |= static_cast<uint32_t>(fields.signs[4 * sub_block + i] & 127) << 7 * i;
  return word;
}

void read_word(uint32_t word, int sub_block, GridFields& fields) {
  fields.scales[sub_block] = static_cast<uint8_t>(word >> 28);
  for (int i = 0; i < 4; ++i) fields.signs[4 * sub_block + i] = all_signs(word >> 7 * i);
}

void pack_nibble_pairs(const uint8_t* values, int count, uint8_t* bytes) {
  for (int i = 0; i < count; i += 2) bytes[i / 2] = static_cast<uint8_t>(values[i] | values[i + 1] << 4);
}

void unpack_nibble_pairs(const uint8_t* bytes, int count, uint8_t* values) {
  for (int i = 0; i < count; ++i) values[i] = bytes[i / 2] >> 4 * (i & 1) & 15;
}

}  // namespace

void pack(const GridFields& fields, BlockIQ2_XXS& block) {
  block.d = fields.d;
  for (int b = 0; b < 8; ++b) {
    for (int i = 0; i < 4; ++i) block.fields[8 * b + i] = static_cast<uint8_t>(fields.points[4 * b + i]);
    const uint32_t word = word_of(fields, b);
    std::memcpy(block.fields + 8 * b + 4, &word, 4);
  }
}

void unpack(const BlockIQ2_XXS& block, GridFields& fields) {
  fields.d = block.d;
  for (int b = 0; b < 8; ++b) {
    for (int i = 0; i < 4; ++i) fields.points[4 * b + i] = block.fields[8 * b + i];
    uint32_t word;
    std::memcpy(&word, block.fields + 8 * b + 4, 4);
    read_word(word, b, fields);
  }
}

void pack(const GridFields& fields, BlockIQ2_XS& block) {
  block.d = fields.d;
  for (int i = 0; i < 32; ++i)
    block.points[i] = static_cast<uint16_t>(fields.points[i] | (fields.signs[i] & 127) << 9);
  pack_nibble_pairs(fields.scales, 16, block.scales);
}

void unpack(const BlockIQ2_XS& block, GridFields& fields) {
  fields.d = block.d;
  for (int i = 0; i < 32; ++i) {
    fields.points[i] = block.points[i] & 511;
    fields.signs[i] = all_signs(static_cast<uint32_t>(block.points[i]) >> 9);
  }
  unpack_nibble_pairs(block.scales, 16, fields.scales);
}

void pack(const GridFields& fields, BlockIQ2_S& block) {
  block.d = fields.d;
  std::memset(block.high, 0, sizeof(block.high));
  for (int i = 0; i < 32; ++i) {
    block.points[i] = static_cast<uint8_t>(fields.points[i]);
    block.high[i / 4] = static_cast<uint8_t>(block.high[i / 4] | fields.points[i] >> 8 << 2 * (i % 4));
    block.signs[i] = fields.signs[i];
  }
  pack_nibble_pairs(fields.scales, 16, block.scales);
}

void unpack(const BlockIQ2_S& block, GridFields& fields) {
  fields.d = block.d;
  for (int i = 0; i < 32; ++i) {
    fields.points[i] = static_cast<uint16_t>(block.points[i] | (block.high[i / 4] >> 2 * (i % 4) & 3) << 8);
    fields.signs[i] = block.signs[i];
  }
  unpack_nibble_pairs(block.scales, 16, fields.scales);
}

void pack(const GridFields& fields, BlockIQ3_XXS& block) {
  block.d = fields.d;
  for (int i = 0; i < 64; ++i) block.points[i] = static_cast<uint8_t>(fields.points[i]);
  for (int b = 0; b < 8; ++b) {
    const uint32_t word = word_of(fields, b);
    std::memcpy(block.fields + 4 * b, &word, 4);
  }
}

void unpack(const BlockIQ3_XXS& block, GridFields& fields) {
  fields.d = block.d;
  for (int i = 0; i < 64; ++i) fields.points[i] = block.points[i];
  for (int b = 0; b < 8; ++b) {
    uint32_t word;
    std::memcpy(&word, block.fields + 4 * b, 4);
    read_word(word, b, fields);
  }
}

void pack(const GridFields& fields, BlockIQ3_S& block) {
  block.d = fields.d;
  std::memset(block.high, 0, sizeof(block.high));
  for (int i = 0; i < 64; ++i) {
    block.points[i] = static_cast<uint8_t>(fields.points[i]);
    block.high[i / 8] = static_cast<uint8_t>(block.high[i / 8] | fields.points[i] >> 8 << i % 8);
  }
  std::memcpy(block.signs, fields.signs, sizeof(block.signs));
  pack_nibble_pairs(fields.scales, 8, block.scales);
}

void unpack(const BlockIQ3_S& block, GridFields& fields) {
  fields.d = block.d;
  for (int i = 0; i < 64; ++i)
    fields.points[i] = static_cast<uint16_t>(block.points[i] | (block.high[i / 8] >> i % 8 & 1) << 8);
  std::memcpy(fields.signs, block.signs, sizeof(block.signs));
  unpack_nibble_pairs(block.scales, 8, fields.scales);
}

void decode_points(const GridFields& fields, const Grid& grid, GridScaling scaling, float* weights) {
  const float d = half_to_float(fields.d);
  const float* by_point = grid.by_point.data();
  const int dimensions = grid.dimensions;
  for (int s = 0; s < 32; ++s) {  // 8 weights with their signs: a point, or two
    const float scale = d * (0.5f + fields.scales[8 * s / scaling.sub_block]) * (2 * scaling.unit);
    const uint8_t signs = fields.signs[s];
    for (int half = 0; half < 2; ++half) {
      const float* magnitudes = dimensions == 8 ? by_point + 8 * fields.points[s] + 4 * half
                                                : by_point + 4 * fields.points[2 * s + half];
      float* x = weights + 8 * s + 4 * half;
      for (int i = 0; i < 4; ++i)
        x[i] = scale * (signs >> (4 * half + i) & 1 ? -magnitudes[i] : magnitudes[i]);
    }
  }
}

}  // namespace strata
