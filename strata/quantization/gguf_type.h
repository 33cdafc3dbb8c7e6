#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace strata {

// Storage types of GGUF tensors, by ggml's numbers.
enum class GgufType : uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  IQ4_NL = 20,
  BF16 = 30,
};

struct GgufTypeTraits {
  GgufType type;
  std::string_view name;  // as llama.cpp writes it: "Q4_K"
  int block_elements;     // weights in one block along a row
  int block_bytes;        // bytes of one block
};

// All types that can be encoded and decoded.
const std::vector<GgufTypeTraits>& gguf_types();
const GgufTypeTraits& traits_of(GgufType type);
bool is_known_gguf_type(uint32_t type);
GgufType parse_gguf_type(std::string_view name);  // any letter case; throws UsageError

// The type that a row of `cols` weights really gets, as llama.cpp does: Q2_K and Q3_K -> IQ4_NL, Q4_K ->
// Q5_0, Q5_K -> Q5_1, Q6_K -> Q8_0 where 256 does not divide cols; anything -> F16 where 32 does not either.
GgufType stored_type(GgufType type, int64_t cols);

// Bytes of one row. The block size must divide cols.
int64_t row_bytes(GgufType type, int64_t cols);

}  // namespace strata
