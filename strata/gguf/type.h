#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace strata {

// Storage types of GGUF tensors, by ggml's numbers. What strata knows of each is a row of the table in
// type.cpp.
enum class GgufType : uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q8_1 = 9,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  Q8_K = 15,
  IQ2_XXS = 16,
  IQ2_XS = 17,
  IQ3_XXS = 18,
  IQ1_S = 19,
  IQ4_NL = 20,
  IQ3_S = 21,
  IQ2_S = 22,
  IQ4_XS = 23,
  I8 = 24,
  I16 = 25,
  I32 = 26,
  I64 = 27,
  F64 = 28,
  IQ1_M = 29,
  BF16 = 30,
  TQ1_0 = 34,
  TQ2_0 = 35,
  MXFP4 = 39,
};

struct GgufCodec;  // block_codec.h

// A row of the table of types. Tensors of a type without codec are only carried along.
struct GgufTypeTraits {
  GgufType type;
  std::string_view name;   // as llama.cpp writes it: "Q4_K"
  int block_elements;      // weights in one block along a row
  int block_bytes;         // bytes of one block
  int code_bits;           // of one weight's code, which is how the types got their names; 0 without codec
  int file_type;           // llama.cpp's general.file_type of files mostly of this type; -1 without codec
  GgufType fallback;       // for rows that the blocks do not divide, see stored_type
  GgufType inputs;         // to which llama.cpp rounds what is multiplied with such a matrix
  const GgufCodec* codec;  // null: can be neither encoded nor decoded
};

// All types that can be encoded and decoded.
const std::vector<GgufTypeTraits>& gguf_types();

// Throws Error for a type that is not in the table.
const GgufTypeTraits& traits_of(GgufType type);
bool is_known_gguf_type(uint32_t type);
bool is_coded(GgufType type);                     // can be encoded and decoded
GgufType parse_gguf_type(std::string_view name);  // any letter case; throws UsageError

// The type that a row of `cols` weights really gets, as llama.cpp does: Q2_K, Q3_K and the IQ
// types -> IQ4_NL, Q4_K -> Q5_0, Q5_K -> Q5_1, Q6_K -> Q8_0 where 256 does not divide cols; anything -> F16
// where 32 does not either.
GgufType stored_type(GgufType type, int64_t cols);

// Whether the weights of a type's blocks have no codes of their own: eight or four of them are one point of
// a grid (and IQ4_XS, which is treated alike).
bool takes_whole_blocks(GgufType type);

// Bytes of one row. The block size must divide cols.
int64_t row_bytes(GgufType type, int64_t cols);

}  // namespace strata
