#include "strata/gguf/type.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <limits>
#include <string>

#include "strata/core/error.h"
#include "strata/gguf/blocks_of_32.h"
#include "strata/gguf/float_codec.h"
#include "strata/gguf/grid_blocks.h"
#include "strata/gguf/mxfp4_blocks.h"
#include "strata/gguf/super_blocks.h"

namespace strata {
namespace {

using Type = GgufType;

// A type whose tensors can only be copied, of which no more than the size is needed.
constexpr GgufTypeTraits carried(Type type, std::string_view name, int block_elements, int block_bytes) {
  return {type, name, block_elements, block_bytes, 0, -1, type, type, nullptr};
}

// The table of types: everything that strata knows of one stands in its row. File types of Q3_K, Q4_K and
// Q5_K are those of llama.cpp's medium mixes, as our files are mixed.
//
//   type, name, weights and bytes of a block, code bits, file type, fallback, inputs, codec
constexpr GgufTypeTraits table[] = {
    {Type::F32, "F32", 1, 4, 32, 0, Type::F16, Type::F32, &float_codec<DType::F32>},
    {Type::F16, "F16", 1, 2, 16, 1, Type::F16, Type::F16, &float_codec<DType::F16>},
    {Type::BF16, "BF16", 1, 2, 16, 32, Type::F16, Type::BF16, &float_codec<DType::BF16>},
    {Type::Q8_0, "Q8_0", 32, 34, 8, 7, Type::F16, Type::Q8_0, &codec_of_32<BlockQ8_0>},
    {Type::Q4_0, "Q4_0", 32, 18, 4, 2, Type::F16, Type::Q8_0, &codec_of_32<BlockQ4_0>},
    {Type::Q4_1, "Q4_1", 32, 20, 4, 3, Type::F16, Type::Q8_1, &codec_of_32<BlockQ4_1>},
    {Type::Q5_0, "Q5_0", 32, 22, 5, 8, Type::F16, Type::Q8_0, &codec_of_32<BlockQ5_0>},
    {Type::Q5_1, "Q5_1", 32, 24, 5, 9, Type::F16, Type::Q8_1, &codec_of_32<BlockQ5_1>},
    {Type::Q2_K, "Q2_K", 256, 84, 2, 10, Type::IQ4_NL, Type::Q8_K, &super_block_codec<BlockQ2_K>},
    {Type::Q3_K, "Q3_K", 256, 110, 3, 12, Type::IQ4_NL, Type::Q8_K, &super_block_codec<BlockQ3_K>},
    {Type::Q4_K, "Q4_K", 256, 144, 4, 15, Type::Q5_0, Type::Q8_K, &super_block_codec<BlockQ4_K>},
    {Type::Q5_K, "Q5_K", 256, 176, 5, 17, Type::Q5_1, Type::Q8_K, &super_block_codec<BlockQ5_K>},
    {Type::Q6_K, "Q6_K", 256, 210, 6, 18, Type::Q8_0, Type::Q8_K, &super_block_codec<BlockQ6_K>},
    {Type::IQ4_NL, "IQ4_NL", 32, 18, 4, 25, Type::F16, Type::Q8_0, &codec_of_32<BlockIQ4_NL>},
    {Type::IQ4_XS, "IQ4_XS", 256, 136, 4, 30, Type::IQ4_NL, Type::Q8_K,
     &whole_super_block_codec<BlockIQ4_XS>},
    {Type::IQ3_S, "IQ3_S", 256, 110, 3, 26, Type::IQ4_NL, Type::Q8_K, &grid_codec<BlockIQ3_S>},
    {Type::IQ3_XXS, "IQ3_XXS", 256, 98, 3, 23, Type::IQ4_NL, Type::Q8_K, &grid_codec<BlockIQ3_XXS>},
    {Type::IQ2_S, "IQ2_S", 256, 82, 2, 28, Type::IQ4_NL, Type::Q8_K, &grid_codec<BlockIQ2_S>},
    {Type::IQ2_XS, "IQ2_XS", 256, 74, 2, 20, Type::IQ4_NL, Type::Q8_K, &grid_codec<BlockIQ2_XS>},
    {Type::IQ2_XXS, "IQ2_XXS", 256, 66, 2, 19, Type::IQ4_NL, Type::Q8_K, &grid_codec<BlockIQ2_XXS>},
    {Type::MXFP4, "MXFP4", 32, 17, 4, 38, Type::F16, Type::Q8_0, &mxfp4_codec},
    carried(Type::Q8_1, "Q8_1", 32, 36),
    carried(Type::Q8_K, "Q8_K", 256, 292),
    carried(Type::IQ1_S, "IQ1_S", 256, 50),
    carried(Type::IQ1_M, "IQ1_M", 256, 56),
    carried(Type::I8, "I8", 1, 1),
    carried(Type::I16, "I16", 1, 2),
    carried(Type::I32, "I32", 1, 4),
    carried(Type::I64, "I64", 1, 8),
    carried(Type::F64, "F64", 1, 8),
    carried(Type::TQ1_0, "TQ1_0", 256, 54),
    carried(Type::TQ2_0, "TQ2_0", 256, 66),
};

constexpr int kRows = static_cast<int>(std::size(table));

// The row of a type; kRows where it has none.
constexpr int row_of(uint32_t number) {
  int row = 0;
  while (row < kRows && static_cast<uint32_t>(table[row].type) != number) ++row;
  return row;
}

// No number stands twice, sizes are those of the block that the codec is made from, and blocks that do not
// divide a row give way to shorter ones. (Types that are only carried along are known by code_bits: GCC does
// not compare pointers at compile time under its sanitizers.)
constexpr bool is_consistent() {
  for (int row = 0; row < kRows; ++row) {
    const GgufTypeTraits& traits = table[row];
    if (row_of(static_cast<uint32_t>(traits.type)) != row) return false;
    if (traits.code_bits == 0) continue;
    if (traits.block_elements != traits.codec->block_elements) return false;
    if (traits.block_bytes != traits.codec->block_bytes) return false;
    const int fallback = row_of(static_cast<uint32_t>(traits.fallback));
    if (fallback == kRows || table[fallback].code_bits == 0) return false;
    if (traits.block_elements > 1 && table[fallback].block_elements >= traits.block_elements) return false;
  }
  return true;
}
static_assert(is_consistent());

bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

const std::vector<GgufTypeTraits>& gguf_types() {
  static const std::vector<GgufTypeTraits> types = [] {
    std::vector<GgufTypeTraits> coded;
    std::copy_if(std::begin(table), std::end(table), std::back_inserter(coded),
                 [](const GgufTypeTraits& traits) { return traits.codec != nullptr; });
    return coded;
  }();
  return types;
}

const GgufTypeTraits& traits_of(GgufType type) {
  const int row = row_of(static_cast<uint32_t>(type));
  if (row == kRows)
    fail("GGUF type {} is not known; it is not in the table of types", static_cast<uint32_t>(type));
  return table[row];
}

bool is_known_gguf_type(uint32_t type) {
  return row_of(type) != kRows;
}

bool is_coded(GgufType type) {
  return is_known_gguf_type(static_cast<uint32_t>(type)) && traits_of(type).codec != nullptr;
}

const GgufCodec& codec_of(GgufType type) {
  const GgufTypeTraits& traits = traits_of(type);
  if (!traits.codec)
    fail("tensors of type {} can only be copied; they can be neither decoded nor encoded", traits.name);
  return *traits.codec;
}

GgufType parse_gguf_type(std::string_view name) {
  std::string known;
  for (const GgufTypeTraits& traits : gguf_types()) {
    if (same_letters(traits.name, name)) return traits.type;
    known.append(known.empty() ? "" : ", ").append(traits.name);
  }
  fail_usage("\"{}\" is not a known GGUF type; known are {}", name, known);
}

GgufType stored_type(GgufType type, int64_t cols) {
  while (cols % traits_of(type).block_elements != 0) {
    codec_of(type);  // throws for a type that can only be copied: it has no fallback
    type = traits_of(type).fallback;
  }
  return type;
}

bool takes_whole_blocks(GgufType type) {
  return codec_of(type).block_elements > 1 && !codec_of(type).codes;
}

int64_t row_bytes(GgufType type, int64_t cols) {
  const GgufTypeTraits& traits = traits_of(type);
  if (cols < 0 || cols % traits.block_elements != 0)
    fail(
        "a row of {} weights cannot be stored as {}: its blocks hold {} weights; use the type that "
        "stored_type gives for this length",
        cols, traits.name, traits.block_elements);
  if (cols > std::numeric_limits<int64_t>::max() / 8)
    fail("a row of {} weights is longer than any file can hold; a sound tensor was expected", cols);
  return cols / traits.block_elements * traits.block_bytes;
}

}  // namespace strata
