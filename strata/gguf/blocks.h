#pragma once

#include <array>
#include <cstdint>

namespace strata {

// The blocks of GGUF tensors byte by byte, in the order of their fields in the file (little-endian; 16-bit
// fields are the bits of fp16 numbers). Codes are written q, their sub-block's fields s (scale) and m (min).

// x = q d, q in [-127, 127].
struct BlockQ8_0 {
  uint16_t d;
  int8_t codes[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

// x = (q - 8) d. Byte j holds codes j (low nibble) and j + 16 (high nibble), as in the next three.
struct BlockQ4_0 {
  uint16_t d;
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

// x = q d + m.
struct BlockQ4_1 {
  uint16_t d, m;
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

// x = (q - 16) d. Bit j of the 32 high bits is the fifth bit of code j.
struct BlockQ5_0 {
  uint16_t d;
  uint8_t high[4];
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

// x = q d + m.
struct BlockQ5_1 {
  uint16_t d, m;
  uint8_t high[4];
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

// x = iq4_nl_values[q] d.
struct BlockIQ4_NL {
  uint16_t d;
  uint8_t codes[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18);

inline constexpr std::array<int8_t, 16> iq4_nl_values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                         1,    13,   25,  38,  53,  69,  89,  113};

// 16 sub-blocks of 16, x = d s q - dmin m; s in the low nibble, m in the high one. Byte l of half h holds
// the codes of weights 128 h + l, + 32, + 64 and + 96 in its four pairs of bits.
struct BlockQ2_K {
  uint8_t scales_mins[16];
  uint8_t codes[64];
  uint16_t d, dmin;
};
static_assert(sizeof(BlockQ2_K) == 84);

// 16 sub-blocks of 16, x = d (s - 32) (q - 4). The low two bits of q lie as in Q2_K; bit b of high[l] is the
// third bit of weight 32 b + l. Scales: low nibbles of s 0..7 and 8..15 in bytes 0..7, then their upper two
// bits, those of s k, k + 4, k + 8 and k + 12 in byte 8 + k.
struct BlockQ3_K {
  uint8_t high[32];
  uint8_t codes[64];
  uint8_t scales[12];
  uint16_t d;
};
static_assert(sizeof(BlockQ3_K) == 110);

// 8 sub-blocks of 32, x = d s q - dmin m; s and m of 6 bits. Bytes 0..3 and 4..7 hold s and m of sub-blocks
// 0..3 in their low six bits; bytes 8..11 the low nibbles of s and m of sub-blocks 4..7, whose upper two bits
// stand on top of bytes 0..3 and 4..7. Byte l of quarter j holds codes 64 j + l and 64 j + 32 + l.
struct BlockQ4_K {
  uint16_t d, dmin;
  uint8_t scales_mins[12];
  uint8_t codes[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

// As Q4_K; bit b of high[l] is the fifth bit of weight 32 b + l.
struct BlockQ5_K {
  uint16_t d, dmin;
  uint8_t scales_mins[12];
  uint8_t high[32];
  uint8_t codes[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

// 16 sub-blocks of 16, x = d s (q - 32), s signed. In half h, byte l of its 64 low bytes holds the low
// nibbles of weights 128 h + l and + 64, byte l of its 32 high bytes the upper two bits of weights 128 h + l,
// + 32,
// + 64 and + 96.
struct BlockQ6_K {
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  uint16_t d;
};
static_assert(sizeof(BlockQ6_K) == 210);

// 8 sub-blocks of 32, x = iq4_nl_values[q] d (s - 32): low nibbles of s in pairs, their upper two bits in
// scales_high; codes as in IQ4_NL.
struct BlockIQ4_XS {
  uint16_t d, scales_high;
  uint8_t scales_low[4];
  uint8_t codes[128];
};
static_assert(sizeof(BlockIQ4_XS) == 136);

}  // namespace strata
