// Vectors over sub-blocks, for the GGUF encoders. Included once for every instruction set.
//
// The sub-blocks of a block stand side by side in the lanes of a vector: weight i of sub-blocks 0..7 at
// lanes[8 i + s]. Sums over a sub-block are then sums down a lane, in the order of the weights, which makes
// the result independent of the vector width.

#if defined(STRATA_GGUF_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_GGUF_LANES_INL_H
#undef STRATA_GGUF_LANES_INL_H
#else
#define STRATA_GGUF_LANES_INL_H
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstdint>

#include "strata/gguf/levels.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int lane_count = 8;  // sub-blocks side by side; narrower vectors take them in several columns
using Floats = hn::CappedTag<float, lane_count>;
using Vec = hn::Vec<Floats>;
using Mask = hn::Mask<Floats>;
constexpr int column_width = static_cast<int>(hn::MaxLanes(Floats()));

HWY_INLINE Vec splat(float value) {
  return hn::Set(Floats(), value);
}
HWY_INLINE Vec load(const float* lanes) {
  return hn::Load(Floats(), lanes);
}
HWY_INLINE void store(Vec v, float* lanes) {
  hn::Store(v, Floats(), lanes);
}
HWY_INLINE Vec zero() {
  return hn::Zero(Floats());
}

// a / b, and 0 where b is 0.
HWY_INLINE Vec ratio(Vec a, Vec b) {
  return hn::IfThenZeroElse(hn::Eq(b, zero()), hn::Div(a, b));
}

// Beyond this no type of 32 or 256 weights a block can follow, and squares would overflow.
constexpr float largest_weight = 1e9f;
HWY_INLINE Vec clamp(Vec v, Vec low, Vec high) {
  return hn::Min(hn::Max(v, low), high);
}
HWY_INLINE Vec bounded(Vec v) {
  return clamp(v, splat(-largest_weight), splat(largest_weight));
}

#if HWY_TARGET == HWY_AVX2
// 8 x 8 values: row r of the target is column r of the source, whose rows are `stride` apart.
HWY_INLINE void transpose(const float* HWY_RESTRICT source, int stride, float* HWY_RESTRICT target) {
  const Floats f;
  const hn::CappedTag<double, lane_count / 2> pairs;
  Vec quarter[8], half[8];
  for (int r = 0; r < 8; r += 2) {
    const Vec a = bounded(hn::LoadU(f, source + r * stride));
    const Vec b = bounded(hn::LoadU(f, source + (r + 1) * stride));
    quarter[r] = hn::InterleaveLower(f, a, b);
    quarter[r + 1] = hn::InterleaveUpper(f, a, b);
  }
  for (int r = 0; r < 8; r += 4)
    for (int k = 0; k < 2; ++k) {
      const auto a = hn::BitCast(pairs, quarter[r + k]), b = hn::BitCast(pairs, quarter[r + k + 2]);
      half[r + 2 * k] = hn::BitCast(f, hn::InterleaveLower(pairs, a, b));
      half[r + 2 * k + 1] = hn::BitCast(f, hn::InterleaveUpper(pairs, a, b));
    }
  for (int k = 0; k < 4; ++k) {
    hn::Store(hn::ConcatLowerLower(f, half[k + 4], half[k]), f, target + 8 * k);
    hn::Store(hn::ConcatUpperUpper(f, half[k + 4], half[k]), f, target + 8 * (k + 4));
  }
}
#else
HWY_INLINE void transpose(const float* HWY_RESTRICT source, int stride, float* HWY_RESTRICT target) {
  for (int i = 0; i < 8; ++i)
    for (int s = 0; s < 8; ++s) target[8 * i + s] = source[s * stride + i];
  for (int i = 0; i < 64; i += column_width) store(bounded(load(target + i)), target + i);
}
#endif

// The nearest fp16 numbers (ties to even, kept finite), as floats.
HWY_INLINE Vec round_to_half(Vec v) {
  const Floats f;
  const hn::RebindToUnsigned<Floats> bits;
  const Vec magnitude = hn::Min(hn::Abs(v), splat(65504));
  // Normal numbers lose their lowest 13 bits; below 2^-14, fp16 is spaced as floats around 0.75 are.
  const auto raw = hn::BitCast(bits, magnitude);
  const auto even = hn::And(hn::ShiftRight<13>(raw), hn::Set(bits, 1));
  const auto rounded = hn::Add(hn::Add(raw, hn::Set(bits, 0x0fff)), even);
  const Vec normal = hn::BitCast(f, hn::And(rounded, hn::Set(bits, 0xffffe000u)));
  const Vec subnormal = hn::Sub(hn::Add(magnitude, splat(0.75f)), splat(0.75f));
  return hn::CopySign(hn::IfThenElse(hn::Lt(magnitude, splat(0x1.0p-14f)), subnormal, normal), v);
}

// The bits of eight fp16 numbers, given as floats.
HWY_INLINE void to_half_bits(const float* HWY_RESTRICT lanes, uint16_t* HWY_RESTRICT halves) {
  const hn::Rebind<hwy::float16_t, Floats> f16;
  const hn::Rebind<uint16_t, Floats> bits;
  for (int s = 0; s < lane_count; s += column_width)
    hn::StoreU(hn::BitCast(bits, hn::DemoteTo(f16, load(lanes + s))), bits, halves + s);
}

// Eight sub-blocks of `size` consecutive weights to lanes.
HWY_INLINE void to_lanes(const float* HWY_RESTRICT weights, int size, float* HWY_RESTRICT lanes) {
  for (int i = 0; i < size; i += 8) transpose(weights + i, size, lanes + 8 * i);
}

// codes[i] = the integer nearest to code(x[i]), which lies in [0, 255], for n consecutive weights, a multiple
// of 8.
template <class Code>
HWY_INLINE void write_codes_of(const float* HWY_RESTRICT x, int n, uint8_t* HWY_RESTRICT codes,
                               const Code& code) {
  const Floats f;
  const hn::RebindToUnsigned<Floats> bits;
  const hn::Rebind<uint8_t, Floats> bytes;
  // Floats from 2^23 on are spaced by one: the sum is rounded, and its lowest byte is the integer.
  const Vec spaced_by_one = splat(0x1.0p23f);
  for (int i = 0; i < n; i += column_width) {
    const Vec rounded = hn::Add(code(hn::LoadU(f, x + i)), spaced_by_one);
    hn::StoreU(hn::TruncateTo(bytes, hn::BitCast(bits, rounded)), bytes, codes + i);
  }
}

// codes[i] = nearest integer to (x[i] + offset) * inverse within [low, high], less low.
HWY_INLINE void write_codes(const float* HWY_RESTRICT x, int n, float offset, float inverse, float low,
                            float high, uint8_t* HWY_RESTRICT codes) {
  const float shift = std::fma(offset, inverse, -low);
  write_codes_of(x, n, codes, [=](Vec v) HWY_ATTR {
    return clamp(hn::MulAdd(v, splat(inverse), splat(shift)), zero(), splat(high - low));
  });
}

// codes[i] = index of the value of IQ4_NL nearest to x[i] * inverse.
HWY_INLINE void write_iq4_nl_codes(const float* HWY_RESTRICT x, int n, float inverse,
                                   uint8_t* HWY_RESTRICT codes) {
  write_codes_of(x, n, codes, [=](Vec v) HWY_ATTR {
    const Vec t = hn::Mul(v, splat(inverse));
    Vec index = zero();
    for (int k = 1; k < 16; ++k) {
      const float middle = (static_cast<float>(iq4_nl_values[k - 1]) + iq4_nl_values[k]) / 2;
      index = hn::Add(index, hn::IfThenElseZero(hn::Gt(t, splat(middle)), splat(1)));
    }
    return index;
  });
}

// How a scaled weight becomes a level, and the weights of a sub-block codes.

// The nearest integer in [low, high].
struct UniformLevels {
  float low, high;
  HWY_INLINE Vec operator()(Vec t) const { return hn::Round(clamp(t, splat(low), splat(high))); }
  HWY_INLINE void write(const float* x, int n, float inverse, uint8_t* codes) const {
    write_codes(x, n, 0, inverse, low, high, codes);
  }
};

// The same, for scales that keep all weights in range.
struct NearestLevels {
  float low, high;
  HWY_INLINE Vec operator()(Vec t) const { return hn::Round(t); }
  HWY_INLINE void write(const float* x, int n, float inverse, uint8_t* codes) const {
    write_codes(x, n, 0, inverse, low, high, codes);
  }
};

// The nearest of the sixteen values of IQ4_NL.
struct Iq4NlLevels {
  HWY_INLINE Vec operator()(Vec t) const {
    Vec level = splat(iq4_nl_values[0]);
    for (int k = 1; k < 16; ++k) {
      const float below = iq4_nl_values[k - 1], above = iq4_nl_values[k];
      const Mask passed = hn::Gt(t, splat((below + above) / 2));
      level = hn::Add(level, hn::IfThenElseZero(passed, splat(above - below)));
    }
    return level;
  }
  HWY_INLINE void write(const float* x, int n, float inverse, uint8_t* codes) const {
    write_iq4_nl_codes(x, n, inverse, codes);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#endif
