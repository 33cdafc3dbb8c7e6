#include "strata/core/bit_packing.h"

namespace strata {

int64_t packed_words(int64_t count, int bits) {
  return (count * bits + 31) / 32;
}

void pack_codes(const uint8_t* codes, int64_t count, int bits, uint32_t* words) {
  uint64_t pending = 0;
  int filled = 0;
  const uint32_t mask = (1u << bits) - 1;
  for (int64_t i = 0; i < count; ++i) {
    pending |= static_cast<uint64_t>(codes[i] & mask) << filled;
    filled += bits;
    if (filled >= 32) {
      *words++ = static_cast<uint32_t>(pending);
      pending >>= 32;
      filled -= 32;
    }
  }
  if (filled > 0) *words = static_cast<uint32_t>(pending);
}

void unpack_codes(const uint32_t* words, int64_t count, int bits, uint8_t* codes) {
  uint64_t pending = 0;
  int filled = 0;
  const uint32_t mask = (1u << bits) - 1;
  for (int64_t i = 0; i < count; ++i) {
    if (filled < bits) {
      pending |= static_cast<uint64_t>(*words++) << filled;
      filled += 32;
    }
    codes[i] = static_cast<uint8_t>(pending & mask);
    pending >>= bits;
    filled -= bits;
  }
}

}  // namespace strata
