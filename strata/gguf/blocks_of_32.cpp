#include "strata/gguf/blocks_of_32.h"

namespace strata {
namespace {

void pack_fifth_bits(const uint8_t codes[32], uint8_t high[4]) {
  for (int byte = 0; byte < 4; ++byte) {
    uint64_t eight;
    std::memcpy(&eight, codes + 8 * byte, 8);
    // The product gathers bit 8 i of its left factor in bit 56 + i.
    const uint64_t bits = (eight >> 4 & 0x0101010101010101u) * 0x0102040810204080u;
    high[byte] = static_cast<uint8_t>(bits >> 56);
  }
}

void add_fifth_bits(const uint8_t high[4], uint8_t codes[32]) {
  for (int i = 0; i < 32; ++i) codes[i] |= static_cast<uint8_t>((high[i / 8] >> (i % 8) & 1) << 4);
}

}  // namespace

void pack_nibbles(const uint8_t codes[32], uint8_t bytes[16]) {
  constexpr uint64_t kLow = 0x0f0f0f0f0f0f0f0fu;
  for (int i = 0; i < 16; i += 8) {
    uint64_t low, high;
    std::memcpy(&low, codes + i, 8);
    std::memcpy(&high, codes + 16 + i, 8);
    const uint64_t both = (low & kLow) | (high & kLow) << 4;
    std::memcpy(bytes + i, &both, 8);
  }
}

void unpack_nibbles(const uint8_t bytes[16], uint8_t codes[32]) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = bytes[i] & 15;
    codes[16 + i] = bytes[i] >> 4;
  }
}

void pack(const FieldsOf32& fields, BlockQ8_0& block) {
  block.d = fields.d;
  for (int i = 0; i < 32; ++i) block.codes[i] = static_cast<int8_t>(fields.codes[i] - 127);
}

void unpack(const BlockQ8_0& block, FieldsOf32& fields) {
  fields.d = block.d;
  fields.m = 0;
  for (int i = 0; i < 32; ++i) fields.codes[i] = static_cast<uint8_t>(block.codes[i] + 127);
}

void pack(const FieldsOf32& fields, BlockQ4_0& block) {
  block.d = fields.d;
  pack_nibbles(fields.codes, block.codes);
}

void unpack(const BlockQ4_0& block, FieldsOf32& fields) {
  fields.d = block.d;
  fields.m = 0;
  unpack_nibbles(block.codes, fields.codes);
}

void pack(const FieldsOf32& fields, BlockQ4_1& block) {
  block.d = fields.d;
  block.m = fields.m;
  pack_nibbles(fields.codes, block.codes);
}

void unpack(const BlockQ4_1& block, FieldsOf32& fields) {
  fields.d = block.d;
  fields.m = block.m;
  unpack_nibbles(block.codes, fields.codes);
}

void pack(const FieldsOf32& fields, BlockQ5_0& block) {
  block.d = fields.d;
  pack_nibbles(fields.codes, block.codes);
  pack_fifth_bits(fields.codes, block.high);
}

void unpack(const BlockQ5_0& block, FieldsOf32& fields) {
  fields.d = block.d;
  fields.m = 0;
  unpack_nibbles(block.codes, fields.codes);
  add_fifth_bits(block.high, fields.codes);
}

void pack(const FieldsOf32& fields, BlockQ5_1& block) {
  block.d = fields.d;
  block.m = fields.m;
  pack_nibbles(fields.codes, block.codes);
  pack_fifth_bits(fields.codes, block.high);
}

void unpack(const BlockQ5_1& block, FieldsOf32& fields) {
  fields.d = block.d;
  fields.m = block.m;
  unpack_nibbles(block.codes, fields.codes);
  add_fifth_bits(block.high, fields.codes);
}

void pack(const FieldsOf32& fields, BlockIQ4_NL& block) {
  block.d = fields.d;
  pack_nibbles(fields.codes, block.codes);
}

void unpack(const BlockIQ4_NL& block, FieldsOf32& fields) {
  fields.d = block.d;
  fields.m = 0;
  unpack_nibbles(block.codes, fields.codes);
}

}  // namespace strata
