#include "strata/gguf/super_blocks.h"

#include <algorithm>

#include "strata/gguf/blocks_of_32.h"

namespace strata {
namespace {

// Two bits a code: byte l of half h holds weights 128 h + l + {0, 32, 64, 96}.
void pack_pairs(const uint8_t* pairs, int shift, uint8_t bytes[64]) {
  for (int h = 0; h < 2; ++h)
    for (int l = 0; l < 32; ++l) {
      const uint8_t* q = pairs + 128 * h + l;
      bytes[32 * h + l] = static_cast<uint8_t>((q[0] >> shift & 3) | (q[32] >> shift & 3) << 2 |
                                               (q[64] >> shift & 3) << 4 | (q[96] >> shift & 3) << 6);
    }
}

void add_pairs(const uint8_t bytes[64], int shift, uint8_t* codes) {
  for (int h = 0; h < 2; ++h)
    for (int j = 0; j < 4; ++j)
      for (int l = 0; l < 32; ++l)
        codes[128 * h + 32 * j + l] |= static_cast<uint8_t>((bytes[32 * h + l] >> (2 * j) & 3) << shift);
}

// One bit a code: bit b of byte l is bit `bit` of weight 32 b + l.
void pack_bit(const uint8_t codes[256], int bit, uint8_t bytes[32]) {
  for (int l = 0; l < 32; ++l) bytes[l] = 0;
  for (int b = 0; b < 8; ++b)
    for (int l = 0; l < 32; ++l) bytes[l] |= static_cast<uint8_t>((codes[32 * b + l] >> bit & 1) << b);
}

void add_bit(const uint8_t bytes[32], int bit, uint8_t codes[256]) {
  for (int b = 0; b < 8; ++b)
    for (int l = 0; l < 32; ++l) codes[32 * b + l] |= static_cast<uint8_t>((bytes[l] >> b & 1) << bit);
}

// Four bits a code: in each chunk of 2 n weights, byte l holds weights l and l + n.
void pack_halves(const uint8_t* codes, int count, int n, uint8_t* bytes) {
  for (int chunk = 0; chunk < count; chunk += 2 * n)
    for (int l = 0; l < n; ++l)
      *bytes++ = static_cast<uint8_t>((codes[chunk + l] & 15) | (codes[chunk + n + l] & 15) << 4);
}

void unpack_halves(const uint8_t* bytes, int count, int n, uint8_t* codes) {
  for (int chunk = 0; chunk < count; chunk += 2 * n, bytes += n)
    for (int l = 0; l < n; ++l) {
      codes[chunk + l] = bytes[l] & 15;
      codes[chunk + n + l] = bytes[l] >> 4;
    }
}

// Scales and mins of 6 bits, eight each, in 12 bytes.
void pack_scales_mins(const SuperBlockFields& fields, uint8_t bytes[12]) {
  for (int j = 0; j < 4; ++j) {
    const int low_s = fields.scales[j], high_s = fields.scales[j + 4];
    const int low_m = fields.mins[j], high_m = fields.mins[j + 4];
    bytes[j] = static_cast<uint8_t>(low_s | high_s >> 4 << 6);
    bytes[j + 4] = static_cast<uint8_t>(low_m | high_m >> 4 << 6);
    bytes[j + 8] = static_cast<uint8_t>((high_s & 15) | (high_m & 15) << 4);
  }
}

void unpack_scales_mins(const uint8_t bytes[12], SuperBlockFields& fields) {
  for (int j = 0; j < 4; ++j) {
    fields.scales[j] = bytes[j] & 63;
    fields.mins[j] = bytes[j + 4] & 63;
    fields.scales[j + 4] = static_cast<int16_t>((bytes[j + 8] & 15) | bytes[j] >> 6 << 4);
    fields.mins[j + 4] = static_cast<int16_t>(bytes[j + 8] >> 4 | bytes[j + 4] >> 6 << 4);
  }
}

void clear(uint8_t codes[256]) {
  for (int i = 0; i < 256; ++i) codes[i] = 0;
}

void clear_mins(SuperBlockFields& fields) {
  std::fill_n(fields.mins, 16, int16_t{0});
  fields.dmin = 0;
}

}  // namespace

void pack(const SuperBlockFields& fields, BlockQ2_K& block) {
  for (int s = 0; s < 16; ++s)
    block.scales_mins[s] = static_cast<uint8_t>(fields.scales[s] | fields.mins[s] << 4);
  pack_pairs(fields.codes, 0, block.codes);
  block.d = fields.d;
  block.dmin = fields.dmin;
}

void unpack(const BlockQ2_K& block, SuperBlockFields& fields) {
  for (int s = 0; s < 16; ++s) {
    fields.scales[s] = block.scales_mins[s] & 15;
    fields.mins[s] = block.scales_mins[s] >> 4;
  }
  clear(fields.codes);
  add_pairs(block.codes, 0, fields.codes);
  fields.d = block.d;
  fields.dmin = block.dmin;
}

void pack(const SuperBlockFields& fields, BlockQ3_K& block) {
  int stored[16];
  for (int k = 0; k < 16; ++k) stored[k] = fields.scales[k] + 32;
  for (int k = 0; k < 8; ++k)
    block.scales[k] = static_cast<uint8_t>((stored[k] & 15) | (stored[k + 8] & 15) << 4);
  for (int k = 0; k < 4; ++k)
    block.scales[8 + k] = static_cast<uint8_t>(stored[k] >> 4 | stored[k + 4] >> 4 << 2 |
                                               stored[k + 8] >> 4 << 4 | stored[k + 12] >> 4 << 6);
  pack_pairs(fields.codes, 0, block.codes);
  pack_bit(fields.codes, 2, block.high);
  block.d = fields.d;
}

void unpack(const BlockQ3_K& block, SuperBlockFields& fields) {
  for (int k = 0; k < 16; ++k) {
    const int low = k < 8 ? block.scales[k] & 15 : block.scales[k - 8] >> 4;
    const int high = block.scales[8 + k % 4] >> (2 * (k / 4)) & 3;
    fields.scales[k] = static_cast<int16_t>((low | high << 4) - 32);
  }
  clear_mins(fields);
  clear(fields.codes);
  add_pairs(block.codes, 0, fields.codes);
  add_bit(block.high, 2, fields.codes);
  fields.d = block.d;
}

void pack(const SuperBlockFields& fields, BlockQ4_K& block) {
  block.d = fields.d;
  block.dmin = fields.dmin;
  pack_scales_mins(fields, block.scales_mins);
  pack_halves(fields.codes, 256, 32, block.codes);
}

void unpack(const BlockQ4_K& block, SuperBlockFields& fields) {
  fields.d = block.d;
  fields.dmin = block.dmin;
  unpack_scales_mins(block.scales_mins, fields);
  unpack_halves(block.codes, 256, 32, fields.codes);
}

void pack(const SuperBlockFields& fields, BlockQ5_K& block) {
  block.d = fields.d;
  block.dmin = fields.dmin;
  pack_scales_mins(fields, block.scales_mins);
  pack_halves(fields.codes, 256, 32, block.codes);
  pack_bit(fields.codes, 4, block.high);
}

void unpack(const BlockQ5_K& block, SuperBlockFields& fields) {
  fields.d = block.d;
  fields.dmin = block.dmin;
  unpack_scales_mins(block.scales_mins, fields);
  unpack_halves(block.codes, 256, 32, fields.codes);
  add_bit(block.high, 4, fields.codes);
}

void pack(const SuperBlockFields& fields, BlockQ6_K& block) {
  for (int s = 0; s < 16; ++s) block.scales[s] = static_cast<int8_t>(fields.scales[s]);
  pack_halves(fields.codes, 256, 64, block.low);
  pack_pairs(fields.codes, 4, block.high);
  block.d = fields.d;
}

void unpack(const BlockQ6_K& block, SuperBlockFields& fields) {
  for (int s = 0; s < 16; ++s) fields.scales[s] = block.scales[s];
  clear_mins(fields);
  unpack_halves(block.low, 256, 64, fields.codes);
  add_pairs(block.high, 4, fields.codes);
  fields.d = block.d;
}

void pack(const SuperBlockFields& fields, BlockIQ4_XS& block) {
  block.d = fields.d;
  block.scales_high = 0;
  for (int b = 0; b < 8; ++b) {
    const int scale = fields.scales[b] + 32;
    block.scales_high = static_cast<uint16_t>(block.scales_high | (scale >> 4) << 2 * b);
    const int low = (scale & 15) << 4 * (b & 1);
    block.scales_low[b / 2] = static_cast<uint8_t>((b & 1 ? block.scales_low[b / 2] : 0) | low);
    pack_nibbles(fields.codes + 32 * b, block.codes + 16 * b);
  }
}

void unpack(const BlockIQ4_XS& block, SuperBlockFields& fields) {
  fields.d = block.d;
  clear_mins(fields);
  for (int b = 0; b < 8; ++b) {
    const int low = block.scales_low[b / 2] >> 4 * (b & 1) & 15;
    fields.scales[b] = static_cast<int16_t>((low | (block.scales_high >> 2 * b & 3) << 4) - 32);
    unpack_nibbles(block.codes + 16 * b, fields.codes + 32 * b);
  }
}

}  // namespace strata
