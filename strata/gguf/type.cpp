#include "strata/gguf/type.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <string>

#include "strata/core/error.h"

namespace strata {
namespace {

bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Types that are only carried along.
const std::vector<GgufTypeTraits>& other_types() {
  static const std::vector<GgufTypeTraits> types = {
      {GgufType::Q8_1, "Q8_1", 32, 36},    {GgufType::Q8_K, "Q8_K", 256, 292},
      {GgufType::IQ1_S, "IQ1_S", 256, 50}, {GgufType::IQ1_M, "IQ1_M", 256, 56},
      {GgufType::I8, "I8", 1, 1},          {GgufType::I16, "I16", 1, 2},
      {GgufType::I32, "I32", 1, 4},        {GgufType::I64, "I64", 1, 8},
      {GgufType::F64, "F64", 1, 8},        {GgufType::TQ1_0, "TQ1_0", 256, 54},
      {GgufType::TQ2_0, "TQ2_0", 256, 66}, {GgufType::MXFP4, "MXFP4", 32, 17},
  };
  return types;
}

const GgufTypeTraits* find(uint32_t number) {
  for (const auto* types : {&gguf_types(), &other_types()})
    for (const GgufTypeTraits& traits : *types)
      if (static_cast<uint32_t>(traits.type) == number) return &traits;
  return nullptr;
}

}  // namespace

const std::vector<GgufTypeTraits>& gguf_types() {
  static const std::vector<GgufTypeTraits> types = {
      {GgufType::F32, "F32", 1, 4},
      {GgufType::F16, "F16", 1, 2},
      {GgufType::BF16, "BF16", 1, 2},
      {GgufType::Q8_0, "Q8_0", 32, 34},
      {GgufType::Q4_0, "Q4_0", 32, 18},
      {GgufType::Q4_1, "Q4_1", 32, 20},
      {GgufType::Q5_0, "Q5_0", 32, 22},
      {GgufType::Q5_1, "Q5_1", 32, 24},
      {GgufType::Q2_K, "Q2_K", 256, 84},
      {GgufType::Q3_K, "Q3_K", 256, 110},
      {GgufType::Q4_K, "Q4_K", 256, 144},
      {GgufType::Q5_K, "Q5_K", 256, 176},
      {GgufType::Q6_K, "Q6_K", 256, 210},
      {GgufType::IQ4_NL, "IQ4_NL", 32, 18},
      {GgufType::IQ4_XS, "IQ4_XS", 256, 136},
      {GgufType::IQ3_S, "IQ3_S", 256, 110},
      {GgufType::IQ3_XXS, "IQ3_XXS", 256, 98},
      {GgufType::IQ2_S, "IQ2_S", 256, 82},
      {GgufType::IQ2_XS, "IQ2_XS", 256, 74},
      {GgufType::IQ2_XXS, "IQ2_XXS", 256, 66},
  };
  return types;
}

const GgufTypeTraits& traits_of(GgufType type) {
  const GgufTypeTraits* traits = find(static_cast<uint32_t>(type));
  if (!traits)
    fail("GGUF type {} is not known; it is not in the table of types", static_cast<uint32_t>(type));
  return *traits;
}

bool is_known_gguf_type(uint32_t type) {
  return find(type) != nullptr;
}

bool is_coded(GgufType type) {
  return std::any_of(gguf_types().begin(), gguf_types().end(),
                     [&](const GgufTypeTraits& traits) { return traits.type == type; });
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
  if (cols % traits_of(type).block_elements == 0) return type;
  if (cols % 32 != 0) return GgufType::F16;
  switch (type) {
    case GgufType::Q2_K:
    case GgufType::Q3_K:
    case GgufType::IQ4_XS:
    case GgufType::IQ3_S:
    case GgufType::IQ3_XXS:
    case GgufType::IQ2_S:
    case GgufType::IQ2_XS:
    case GgufType::IQ2_XXS:
      return GgufType::IQ4_NL;
    case GgufType::Q4_K:
      return GgufType::Q5_0;
    case GgufType::Q5_K:
      return GgufType::Q5_1;
    default:
      return GgufType::Q8_0;  // Q6_K, the only other type with blocks of 256
  }
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
