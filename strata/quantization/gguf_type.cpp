#include "strata/quantization/gguf_type.h"

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

const GgufTypeTraits* find(uint32_t number) {
  for (const GgufTypeTraits& traits : gguf_types())
    if (static_cast<uint32_t>(traits.type) == number) return &traits;
  return nullptr;
}

}  // namespace

const std::vector<GgufTypeTraits>& gguf_types() {
  static const std::vector<GgufTypeTraits> types = {
      {GgufType::F32, "F32", 1, 4},       {GgufType::F16, "F16", 1, 2},
      {GgufType::BF16, "BF16", 1, 2},     {GgufType::Q8_0, "Q8_0", 32, 34},
      {GgufType::Q4_0, "Q4_0", 32, 18},   {GgufType::Q4_1, "Q4_1", 32, 20},
      {GgufType::Q5_0, "Q5_0", 32, 22},   {GgufType::Q5_1, "Q5_1", 32, 24},
      {GgufType::Q2_K, "Q2_K", 256, 84},  {GgufType::Q3_K, "Q3_K", 256, 110},
      {GgufType::Q4_K, "Q4_K", 256, 144}, {GgufType::Q5_K, "Q5_K", 256, 176},
      {GgufType::Q6_K, "Q6_K", 256, 210}, {GgufType::IQ4_NL, "IQ4_NL", 32, 18},
  };
  return types;
}

const GgufTypeTraits& traits_of(GgufType type) {
  const GgufTypeTraits* traits = find(static_cast<uint32_t>(type));
  if (!traits)
    fail("GGUF type {} cannot be encoded or decoded; it is not in the table of known types",
         static_cast<uint32_t>(type));
  return *traits;
}

bool is_known_gguf_type(uint32_t type) {
  return find(type) != nullptr;
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
