#pragma once

#include <algorithm>

#include "strata/core/dtype.h"
#include "strata/gguf/block_codec.h"

namespace strata {

// Types without blocks: a row of numbers.

template <DType type>
void decode_floats(const std::byte* bytes, int64_t n, float* weights) {
  to_float(type, bytes, weights, n);
}

// Weights that 16-bit storage would turn into infinities are stored as its largest numbers.
template <DType type>
void encode_floats(const float* weights, int64_t cols, const float*, std::byte* bytes) {
  if constexpr (type == DType::F32) return from_float(type, weights, bytes, cols);
  constexpr float largest = type == DType::F16 ? 65504.0f : 0x1.FEp127f;
  float bounded[256];
  for (int64_t i = 0; i < cols; i += 256) {
    const int64_t count = std::min<int64_t>(256, cols - i);
    for (int64_t k = 0; k < count; ++k) bounded[k] = std::clamp(weights[i + k], -largest, largest);
    from_float(type, bounded, bytes + 2 * i, count);
  }
}

// No exponent is all ones.
template <DType type>
bool finite_floats(const std::byte* bytes, int64_t n) {
  using Bits = std::conditional_t<type == DType::F32, uint32_t, uint16_t>;
  constexpr Bits exponent = type == DType::F32 ? 0x7F800000 : type == DType::F16 ? 0x7C00 : 0x7F80;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    Bits bits;
    std::memcpy(&bits, bytes + i * static_cast<int64_t>(sizeof bits), sizeof bits);
    finite &= (bits & exponent) != exponent;
  }
  return finite;
}

template <DType type>
inline constexpr GgufCodec float_codec = {
    1,       type == DType::F32 ? 4 : 2, &decode_floats<type>, &encode_floats<type>, 0,
    nullptr, &finite_floats<type>};

}  // namespace strata
