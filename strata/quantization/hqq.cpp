// Half-quadratic quantization, compiled for every vector instruction set and chosen when the program runs.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "strata/quantization/hqq.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include <cstring>

#include "strata/quantization/hqq.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kTileGroups>;
using Integers = hn::RebindToSigned<Floats>;
using Vector = hn::Vec<Floats>;

constexpr float kNorm = 0.7f;                   // p
constexpr float kLogFirstBeta = 3.3219281f;     // log2 of 10: beta weighs the quadratic term
constexpr float kLogBetaGrowth = 0.014355293f;  // log2 of 1.01: its growth an update
constexpr float kSettled = 1.0f / 8192;         // a zero point that moves less, in codes, has converged

// log2 of positive numbers, within 3e-5: the exponent plus a polynomial in the mantissa, which is kept
// between sqrt(1/2) and sqrt(2). The coefficients are a minimax fit.
HWY_INLINE Vector FastLog2(Floats d, Vector x) {
  const Integers di;
  const auto bits = hn::BitCast(di, x);
  const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f3504f3)));  // bits of sqrt(1/2)
  const Vector m = hn::Sub(hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(exponent))), hn::Set(d, 1.0f));
  Vector p = hn::MulAdd(hn::Set(d, 0.26116977f), m, hn::Set(d, -0.39246142f));
  p = hn::MulAdd(p, m, hn::Set(d, 0.48464830f));
  p = hn::MulAdd(p, m, hn::Set(d, -0.72046243f));
  p = hn::MulAdd(p, m, hn::Set(d, 1.44265585f));
  return hn::MulAdd(p, m, hn::ConvertTo(d, exponent));
}

// 2^x within a relative 3e-6; x is kept between -126 and 126.
HWY_INLINE Vector FastExp2(Floats d, Vector x) {
  const Integers di;
  const Vector kept = hn::Min(hn::Max(x, hn::Set(d, -126.0f)), hn::Set(d, 126.0f));
  const Vector whole = hn::Round(kept), f = hn::Sub(kept, whole);
  Vector p = hn::MulAdd(hn::Set(d, 0.00968571f), f, hn::Set(d, 0.05592203f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.24021866f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.69312104f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.00000015f));
  const auto exponent = hn::ShiftLeft<23>(hn::ConvertTo(di, whole));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
}

HWY_INLINE Vector RoundToHalf(Floats d, Vector x) {
  const hn::Rebind<hwy::float16_t, Floats> half;
  const Vector limit = hn::Set(d, 65504.0f);
  return hn::PromoteTo(d, hn::DemoteTo(half, hn::Min(hn::Max(x, hn::Neg(limit)), limit)));
}

HWY_INLINE Vector Inverse(Floats d, Vector scale) {
  return hn::IfThenElseZero(hn::Ne(scale, hn::Zero(d)), hn::Div(hn::Set(d, 1.0f), scale));
}

// One vector of groups, one in each lane.
struct Groups {
  const float* values;
  int64_t length;
  Vector inverse;          // 1 / scale
  Vector lowest, highest;  // of the weights, counted in codes
  Vector max_code;
};

// (w / scale + zero) minus its code, for weight k of every group: the error of a weight, counted in codes.
HWY_INLINE Vector ErrorInCodes(Floats d, const Groups& groups, int64_t k, Vector zero) {
  const Vector w = hn::Load(d, groups.values + k * kTileGroups);
  const Vector t = hn::MulAdd(w, groups.inverse, zero);
  return hn::Sub(t, hn::Min(hn::Max(hn::Round(t), hn::Zero(d)), groups.max_code));
}

struct ErrorSums {
  Vector absolute;  // sum |e|
  Vector pull;      // sum of e minus its shrinkage
};

// With s = 1/scale, e counted in codes (e = s (w - w')) and e' its shrinkage, the update of the method,
// mean(q - s (w - (w - w')')), is zero - mean(e - e'), where e - e' = sign(e) min(|e|, |e|^(p-1) s^(2-p) /
// beta). `log_weight` is log2 of the last factor.
HWY_INLINE ErrorSums SumErrorsShrunk(Floats d, const Groups& groups, Vector zero, Vector log_weight) {
  ErrorSums sums = {hn::Zero(d), hn::Zero(d)};
  for (int64_t k = 0; k < groups.length; ++k) {
    const Vector e = ErrorInCodes(d, groups, k, zero);
    const Vector size = hn::Abs(e);
    const Vector bound = FastExp2(d, hn::MulAdd(hn::Set(d, kNorm - 1), FastLog2(d, size), log_weight));
    sums.absolute = hn::Add(sums.absolute, size);
    sums.pull = hn::Add(sums.pull, hn::CopySign(hn::Min(size, bound), e));
  }
  return sums;
}

// The same where every error is small enough to be shrunk to nothing, e' = 0.
HWY_INLINE ErrorSums SumErrors(Floats d, const Groups& groups, Vector zero) {
  ErrorSums even = {hn::Zero(d), hn::Zero(d)}, odd = even;
  int64_t k = 0;
  for (; k + 2 <= groups.length; k += 2) {
    const Vector e0 = ErrorInCodes(d, groups, k, zero);
    const Vector e1 = ErrorInCodes(d, groups, k + 1, zero);
    even.absolute = hn::Add(even.absolute, hn::Abs(e0));
    odd.absolute = hn::Add(odd.absolute, hn::Abs(e1));
    even.pull = hn::Add(even.pull, e0);
    odd.pull = hn::Add(odd.pull, e1);
  }
  if (k < groups.length) {
    const Vector e = ErrorInCodes(d, groups, k, zero);
    even.absolute = hn::Add(even.absolute, hn::Abs(e));
    even.pull = hn::Add(even.pull, e);
  }
  return {hn::Add(even.absolute, odd.absolute), hn::Add(even.pull, odd.pull)};
}

struct BestZero {
  Vector zero;
  Vector absolute;  // its sum |e|
};

HWY_INLINE void KeepBetter(Vector zero, Vector absolute, BestZero& best) {
  const auto better = hn::Lt(absolute, best.absolute);
  best.zero = hn::IfThenElse(better, zero, best.zero);
  best.absolute = hn::IfThenElse(better, absolute, best.absolute);
}

// Half a code is the largest error of a weight that is not clipped.
HWY_INLINE Vector LargestError(Floats d, const Groups& groups, Vector zero) {
  const Vector below = hn::Neg(hn::Add(groups.lowest, zero));
  const Vector above = hn::Sub(hn::Add(groups.highest, zero), groups.max_code);
  return hn::Max(hn::Set(d, 0.5f), hn::Max(below, above));
}

// The updates of the method from one start.
HWY_INLINE void Descend(Floats d, const Groups& groups, Vector zero, int updates, BestZero& best) {
  const Vector per_weight = hn::Set(d, 1.0f / static_cast<float>(groups.length));
  const Vector log_inverse = FastLog2(d, groups.inverse);
  float log_beta = kLogFirstBeta;
  for (int update = 0;; ++update, log_beta += kLogBetaGrowth) {
    const Vector log_weight = hn::MulAdd(hn::Set(d, 2 - kNorm), log_inverse, hn::Set(d, -log_beta));
    // |e| = |e|^(p-1) s^(2-p) / beta
    const Vector shrunk_to_nothing = FastExp2(d, hn::Mul(log_weight, hn::Set(d, 1 / (2 - kNorm))));
    const ErrorSums sums = hn::AllTrue(d, hn::Le(LargestError(d, groups, zero), shrunk_to_nothing))
                               ? SumErrors(d, groups, zero)
                               : SumErrorsShrunk(d, groups, zero, log_weight);
    KeepBetter(zero, sums.absolute, best);
    if (update == updates) return;
    const Vector change = hn::Mul(sums.pull, per_weight);
    if (hn::AllTrue(d, hn::Le(hn::Abs(change), hn::Set(d, kSettled)))) return;
    zero = hn::Sub(zero, change);
  }
}

// The better of the nearest fp16 value and, where the zero point lies well between two, the other one.
HWY_INLINE Vector BetterHalf(Floats d, const Groups& groups, Vector zero) {
  const Vector nearest = RoundToHalf(d, zero);
  const Vector other = RoundToHalf(d, hn::Sub(hn::Add(zero, zero), nearest));
  BestZero best = {nearest, SumErrors(d, groups, nearest).absolute};
  KeepBetter(other, SumErrors(d, groups, other).absolute, best);
  return best.zero;
}

void HqqZeros(const float* values, int64_t length, const TileRange& range, const AffineScheme& scheme,
              int iterations, TileParameters& parameters) {
  const Floats d;
  for (size_t lane = 0; lane < kTileGroups; lane += hn::Lanes(d)) {
    Groups groups;
    groups.values = values + lane;
    groups.length = length;
    groups.inverse = Inverse(d, hn::Load(d, parameters.scales + lane));
    groups.lowest = hn::Mul(hn::Load(d, range.lowest + lane), groups.inverse);
    groups.highest = hn::Mul(hn::Load(d, range.highest + lane), groups.inverse);
    groups.max_code = hn::Set(d, static_cast<float>((1 << scheme.bits) - 1));

    const Vector start = hn::Load(d, parameters.zeros + lane);
    BestZero best = {start, hn::Set(d, 3e38f)};
    Descend(d, groups, start, iterations, best);
    // The published code starts 4-bit groups from an integer: mostly worse, sometimes better, so try both.
    if (scheme.bits == 4) Descend(d, groups, hn::Round(start), iterations, best);
    const bool half = scheme.scales == ScaleStorage::Half;
    hn::Store(half ? BetterHalf(d, groups, best.zero) : best.zero, d, parameters.zeros + lane);
  }
}

// sum (w - w')^2 of every group.
HWY_INLINE Vector SumSquares(Floats d, const Groups& groups, Vector scale, Vector zero) {
  Vector sum = hn::Zero(d);
  for (int64_t k = 0; k < groups.length; ++k) {
    const Vector e = hn::Mul(ErrorInCodes(d, groups, k, zero), scale);
    sum = hn::MulAdd(e, e, sum);
  }
  return sum;
}

void HqqSymmetricScales(const float* values, int64_t length, const AffineScheme& scheme, int iterations,
                        TileParameters& parameters) {
  constexpr float kShrink = 0.94f;
  const Floats d;
  const Vector zero = hn::Set(d, static_cast<float>(1 << (scheme.bits - 1)));
  for (size_t lane = 0; lane < kTileGroups; lane += hn::Lanes(d)) {
    Groups groups = {};
    groups.values = values + lane;
    groups.length = length;
    groups.max_code = hn::Set(d, static_cast<float>((1 << scheme.bits) - 1));
    Vector unrounded = hn::Load(d, parameters.scales + lane), best = unrounded;
    Vector best_error = hn::Set(d, 3e38f);
    for (int step = 0; step <= iterations; ++step) {
      const Vector scale = scheme.scales == ScaleStorage::Half ? RoundToHalf(d, unrounded) : unrounded;
      groups.inverse = Inverse(d, scale);
      const Vector error = SumSquares(d, groups, scale, zero);
      const auto better = hn::And(hn::Lt(error, best_error), hn::Ne(scale, hn::Zero(d)));
      best = hn::IfThenElse(better, scale, best);
      best_error = hn::IfThenElse(better, error, best_error);
      unrounded = hn::Mul(unrounded, hn::Set(d, kShrink));
    }
    hn::Store(best, d, parameters.scales + lane);
  }
}

void HqqIntegerZeros(const float* values, int64_t length, const TileRange& range, const AffineScheme& scheme,
                     int iterations, TileParameters& parameters) {
  constexpr float kShrink = 0.96f;
  const Floats d;
  const Vector top = hn::Set(d, static_cast<float>((1 << scheme.bits) - 1));
  for (size_t lane = 0; lane < kTileGroups; lane += hn::Lanes(d)) {
    Groups groups = {};
    groups.values = values + lane;
    groups.length = length;
    groups.max_code = top;
    const Vector lowest = hn::Min(hn::Load(d, range.lowest + lane), hn::Zero(d));
    const Vector highest = hn::Max(hn::Load(d, range.highest + lane), hn::Zero(d));
    const Vector middle = hn::Mul(hn::Add(lowest, highest), hn::Set(d, 0.5f));
    const auto wanted_zero = [&](Vector inverse) {
      return hn::NegMulAdd(middle, inverse, hn::Mul(top, hn::Set(d, 0.5f)));
    };
    const auto nearest_code = [&](Vector zero) {
      return hn::Min(hn::Max(hn::Round(zero), hn::Zero(d)), top);
    };
    Vector unrounded = hn::Load(d, parameters.scales + lane), best_scale = unrounded;
    Vector best_zero = nearest_code(wanted_zero(Inverse(d, unrounded)));
    Vector best_error = hn::Set(d, 3e38f);
    for (int step = 0; step <= iterations; ++step) {
      const Vector scale = RoundToHalf(d, unrounded);
      groups.inverse = Inverse(d, scale);
      const auto keep_better = [&](Vector zero) {
        const Vector error = SumSquares(d, groups, scale, zero);
        const auto better = hn::And(hn::Lt(error, best_error), hn::Ne(scale, hn::Zero(d)));
        best_scale = hn::IfThenElse(better, scale, best_scale);
        best_zero = hn::IfThenElse(better, zero, best_zero);
        best_error = hn::IfThenElse(better, error, best_error);
      };
      const Vector wanted = wanted_zero(groups.inverse);
      keep_better(nearest_code(hn::Floor(wanted)));
      keep_better(nearest_code(hn::Ceil(wanted)));
      unrounded = hn::Mul(unrounded, hn::Set(d, kShrink));
    }
    hn::Store(best_scale, d, parameters.scales + lane);
    hn::Store(best_zero, d, parameters.zeros + lane);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace strata {

HWY_EXPORT(HqqZeros);
HWY_EXPORT(HqqSymmetricScales);
HWY_EXPORT(HqqIntegerZeros);

void hqq_zeros(const float* values, int64_t length, const TileRange& range, const AffineScheme& scheme,
               int iterations, TileParameters& parameters) {
  HWY_DYNAMIC_DISPATCH(HqqZeros)(values, length, range, scheme, iterations, parameters);
}

void hqq_symmetric_scales(const float* values, int64_t length, const AffineScheme& scheme, int iterations,
                          TileParameters& parameters) {
  HWY_DYNAMIC_DISPATCH(HqqSymmetricScales)(values, length, scheme, iterations, parameters);
}

void hqq_integer_zeros(const float* values, int64_t length, const TileRange& range,
                       const AffineScheme& scheme, int iterations, TileParameters& parameters) {
  HWY_DYNAMIC_DISPATCH(HqqIntegerZeros)(values, length, range, scheme, iterations, parameters);
}

}  // namespace strata
#endif  // HWY_ONCE
