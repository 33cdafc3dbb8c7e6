#include "strata/gguf/levels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/gguf/fields.h"

namespace strata {
namespace {

// Codes run from 0 to `largest`; level = code - zero.
struct CodeRange {
  int zero, largest;
};

std::optional<CodeRange> find_code_range(GgufType type) {
  switch (type) {
    case GgufType::Q8_0:
      return CodeRange{127, 254};
    case GgufType::Q4_0:
      return CodeRange{8, 15};
    case GgufType::Q5_0:
      return CodeRange{16, 31};
    case GgufType::Q4_1:
    case GgufType::Q4_K:
      return CodeRange{0, 15};
    case GgufType::Q5_1:
    case GgufType::Q5_K:
      return CodeRange{0, 31};
    case GgufType::Q2_K:
      return CodeRange{0, 3};
    case GgufType::Q3_K:
      return CodeRange{4, 7};
    case GgufType::Q6_K:
      return CodeRange{32, 63};
    case GgufType::IQ4_NL:
      return CodeRange{0, 15};
    default:
      return std::nullopt;
  }
}

CodeRange code_range(GgufType type) {
  if (const auto range = find_code_range(type)) return *range;
  fail("GGUF type {} has no codes", traits_of(type).name);
}

template <class Block>
Block load(const std::byte* bytes) {
  Block block;
  std::memcpy(&block, bytes, sizeof block);
  return block;
}

template <class Block>
void fill_scaled(const std::byte* bytes, BlockLevels& levels) {
  const Block block = load<Block>(bytes);
  std::fill_n(levels.scale, 2, half_to_float(block.d));
  std::fill_n(levels.min, 2, 0.0f);
}

template <class Block>
void fill_offset(const std::byte* bytes, BlockLevels& levels) {
  const Block block = load<Block>(bytes);
  std::fill_n(levels.scale, 2, half_to_float(block.d));
  std::fill_n(levels.min, 2, -half_to_float(block.m));
}

// Sub-blocks of `size` weights.
template <class Block>
void fill_super(const std::byte* bytes, int size, int scale_offset, bool mins, BlockLevels& levels) {
  SuperBlockFields fields;
  unpack(load<Block>(bytes), fields);
  const float d = half_to_float(fields.d), dmin = mins ? half_to_float(fields.dmin) : 0.0f;
  for (int i = 0; i < 16; ++i) {
    const int s = 16 * i / size;
    levels.scale[i] = d * static_cast<float>(fields.scales[s] - scale_offset);
    levels.min[i] = mins ? dmin * static_cast<float>(fields.mins[s]) : 0.0f;
  }
}

template <class Block>
void replace_super(const uint8_t* codes, std::byte* bytes) {
  Block block = load<Block>(bytes);
  SuperBlockFields fields;
  unpack(block, fields);
  std::copy_n(codes, 256, fields.codes);
  pack(fields, block);
  std::memcpy(bytes, &block, sizeof block);
}

template <class Block>
void replace_nibbles(const uint8_t* codes, std::byte* bytes) {
  Block block = load<Block>(bytes);
  pack_nibbles(codes, block.codes);
  std::memcpy(bytes, &block, sizeof block);
}

template <class Block>
void replace_five_bits(const uint8_t* codes, std::byte* bytes) {
  Block block = load<Block>(bytes);
  pack_nibbles(codes, block.codes);
  pack_fifth_bits(codes, block.high);
  std::memcpy(bytes, &block, sizeof block);
}

void replace_bytes(const uint8_t* codes, std::byte* bytes) {
  BlockQ8_0 block = load<BlockQ8_0>(bytes);
  for (int i = 0; i < 32; ++i) block.codes[i] = static_cast<int8_t>(codes[i] - 127);
  std::memcpy(bytes, &block, sizeof block);
}

uint8_t nearest_iq4_nl(float level) {
  const auto above = std::lower_bound(iq4_nl_values.begin(), iq4_nl_values.end(), level);
  if (above == iq4_nl_values.begin()) return 0;
  if (above == iq4_nl_values.end()) return 15;
  const bool below = level - static_cast<float>(above[-1]) < static_cast<float>(*above) - level;
  return static_cast<uint8_t>(above - iq4_nl_values.begin() - (below ? 1 : 0));
}

}  // namespace

bool takes_whole_blocks(GgufType type) {
  return traits_of(type).block_elements > 1 && !find_code_range(type);
}

void read_levels(GgufType type, const std::byte* block, BlockLevels& levels) {
  switch (type) {
    case GgufType::Q8_0:
      return fill_scaled<BlockQ8_0>(block, levels);
    case GgufType::Q4_0:
      return fill_scaled<BlockQ4_0>(block, levels);
    case GgufType::Q5_0:
      return fill_scaled<BlockQ5_0>(block, levels);
    case GgufType::IQ4_NL:
      return fill_scaled<BlockIQ4_NL>(block, levels);
    case GgufType::Q4_1:
      return fill_offset<BlockQ4_1>(block, levels);
    case GgufType::Q5_1:
      return fill_offset<BlockQ5_1>(block, levels);
    case GgufType::Q2_K:
      return fill_super<BlockQ2_K>(block, 16, 0, true, levels);
    case GgufType::Q3_K:
      return fill_super<BlockQ3_K>(block, 16, 32, false, levels);
    case GgufType::Q4_K:
      return fill_super<BlockQ4_K>(block, 32, 0, true, levels);
    case GgufType::Q5_K:
      return fill_super<BlockQ5_K>(block, 32, 0, true, levels);
    case GgufType::Q6_K:
      return fill_super<BlockQ6_K>(block, 16, 0, false, levels);
    default:
      fail("GGUF type {} has no codes", traits_of(type).name);
  }
}

uint8_t nearest_code(GgufType type, float x, float scale, float min) {
  const CodeRange range = code_range(type);
  if (scale == 0) return static_cast<uint8_t>(range.zero);
  const float level = (x + min) / scale;
  if (type == GgufType::IQ4_NL) return nearest_iq4_nl(level);
  const float code = std::nearbyint(level) + static_cast<float>(range.zero);
  return static_cast<uint8_t>(std::clamp(code, 0.0f, static_cast<float>(range.largest)));
}

float value_of_code(GgufType type, uint8_t code, float scale, float min) {
  const int level = type == GgufType::IQ4_NL ? iq4_nl_values[code] : code - code_range(type).zero;
  return scale * static_cast<float>(level) - min;
}

void write_codes(GgufType type, const uint8_t* codes, std::byte* block) {
  switch (type) {
    case GgufType::Q8_0:
      return replace_bytes(codes, block);
    case GgufType::Q4_0:
      return replace_nibbles<BlockQ4_0>(codes, block);
    case GgufType::Q4_1:
      return replace_nibbles<BlockQ4_1>(codes, block);
    case GgufType::IQ4_NL:
      return replace_nibbles<BlockIQ4_NL>(codes, block);
    case GgufType::Q5_0:
      return replace_five_bits<BlockQ5_0>(codes, block);
    case GgufType::Q5_1:
      return replace_five_bits<BlockQ5_1>(codes, block);
    case GgufType::Q2_K:
      return replace_super<BlockQ2_K>(codes, block);
    case GgufType::Q3_K:
      return replace_super<BlockQ3_K>(codes, block);
    case GgufType::Q4_K:
      return replace_super<BlockQ4_K>(codes, block);
    case GgufType::Q5_K:
      return replace_super<BlockQ5_K>(codes, block);
    case GgufType::Q6_K:
      return replace_super<BlockQ6_K>(codes, block);
    default:
      fail("GGUF type {} has no codes", traits_of(type).name);
  }
}

}  // namespace strata
