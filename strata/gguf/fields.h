#pragma once

#include "strata/gguf/blocks.h"

namespace strata {

// Between the packed bits of a block and one byte a field. Codes are unsigned, in the order of the weights.

void pack_nibbles(const uint8_t codes[32], uint8_t bytes[16]);  // the low four bits of each code
void unpack_nibbles(const uint8_t bytes[16], uint8_t codes[32]);
void pack_fifth_bits(const uint8_t codes[32], uint8_t high[4]);
void add_fifth_bits(const uint8_t high[4], uint8_t codes[32]);

// Fields of the blocks of 256. `scales` has one value a sub-block; Q3_K's are and IQ4_XS's are offset by 32,
// Q6_K's signed.
struct SuperBlockFields {
  uint8_t codes[256];
  int16_t scales[16];
  int16_t mins[16];  // of Q2_K, Q4_K and Q5_K
  uint16_t d, dmin;
};

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

}  // namespace strata
