// Weighted search for scales, compiled for every vector instruction set and chosen when the program runs.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "strata/quantization/weighted_scales.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include "strata/quantization/weighted_scales.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kTileGroups>;
using Vector = hn::Vec<Floats>;

constexpr int kCuts = 6;         // amounts cut off each end of the range
constexpr int kFits = 3;         // least-squares fits, each to the codes of the one before
constexpr int kShrinkages = 16;  // of symmetric scales, for either sign

// The largest part of the range that is worth cutting off at one end: few codes cover the bulk of the weights
// better when they leave the ends out.
float LargestCut(int bits) {
  switch (bits) {
    case 2:
      return 0.35f;
    case 3:
      return 0.25f;
    case 4:
      return 0.15f;
    default:
      return 0.08f;
  }
}

HWY_INLINE Vector RoundToHalf(Floats d, Vector x) {
  const hn::Rebind<hwy::float16_t, Floats> half;
  const Vector limit = hn::Set(d, 65504.0f);
  return hn::PromoteTo(d, hn::DemoteTo(half, hn::Min(hn::Max(x, hn::Neg(limit)), limit)));
}

// A zero point as it is stored: a code, or an fp16 number.
HWY_INLINE Vector StoredZero(Floats d, const AffineScheme& scheme, Vector zero) {
  if (!scheme.integer_zero) return RoundToHalf(d, zero);
  const Vector top = hn::Set(d, static_cast<float>((1 << scheme.bits) - 1));
  return hn::Min(hn::Max(hn::Round(zero), hn::Zero(d)), top);
}

HWY_INLINE Vector Inverse(Floats d, Vector scale) {
  return hn::IfThenElseZero(hn::Ne(scale, hn::Zero(d)), hn::Div(hn::Set(d, 1.0f), scale));
}

// One vector of groups, one in each lane.
struct Groups {
  const float* values;
  const float* column_weights;
  int64_t length;
  Vector max_code;
};

struct Parameters {
  Vector scale, zero;
};

struct Best {
  Parameters parameters;
  Vector error;
};

HWY_INLINE Vector NearestCode(Floats d, const Groups& groups, Vector w, Vector inverse, Vector zero) {
  return hn::Min(hn::Max(hn::Round(hn::MulAdd(w, inverse, zero)), hn::Zero(d)), groups.max_code);
}

HWY_INLINE Vector WeightedError(Floats d, const Groups& groups, const Parameters& p) {
  const Vector inverse = Inverse(d, p.scale);
  Vector sum = hn::Zero(d);
  for (int64_t k = 0; k < groups.length; ++k) {
    const Vector w = hn::Load(d, groups.values + k * kTileGroups);
    const Vector code = NearestCode(d, groups, w, inverse, p.zero);
    const Vector e = hn::NegMulAdd(hn::Sub(code, p.zero), p.scale, w);
    sum = hn::MulAdd(hn::Mul(e, e), hn::Set(d, groups.column_weights[k]), sum);
  }
  return sum;
}

HWY_INLINE void Consider(Floats d, const Groups& groups, const Parameters& stored, Best& best) {
  const Vector error = WeightedError(d, groups, stored);
  const auto better = hn::And(hn::Lt(error, best.error), hn::Ne(stored.scale, hn::Zero(d)));
  best.parameters.scale = hn::IfThenElse(better, stored.scale, best.parameters.scale);
  best.parameters.zero = hn::IfThenElse(better, stored.zero, best.parameters.zero);
  best.error = hn::IfThenElse(better, error, best.error);
}

// Weighted sums over a group: of 1, the codes q, the weights w, and their products.
struct Sums {
  Vector one, q, w, qq, qw;
};

HWY_INLINE Sums SumsOfCodes(Floats d, const Groups& groups, const Parameters& p) {
  const Vector inverse = Inverse(d, p.scale);
  Sums sums = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (int64_t k = 0; k < groups.length; ++k) {
    const Vector w = hn::Load(d, groups.values + k * kTileGroups);
    const Vector h = hn::Set(d, groups.column_weights[k]);
    const Vector q = NearestCode(d, groups, w, inverse, p.zero);
    const Vector hq = hn::Mul(h, q);
    sums.one = hn::Add(sums.one, h);
    sums.q = hn::Add(sums.q, hq);
    sums.w = hn::MulAdd(h, w, sums.w);
    sums.qq = hn::MulAdd(hq, q, sums.qq);
    sums.qw = hn::MulAdd(hq, w, sums.qw);
  }
  return sums;
}

// w ~ a q + b: scale a, zero point -b / a.
HWY_INLINE Parameters FitAsymmetric(Floats d, const Groups& groups, const AffineScheme& scheme,
                                    const Parameters& p) {
  const Sums s = SumsOfCodes(d, groups, p);
  const Vector mean_q = hn::Mul(s.q, Inverse(d, s.one)), mean_w = hn::Mul(s.w, Inverse(d, s.one));
  const Vector a = hn::Mul(hn::NegMulAdd(mean_q, s.w, s.qw), Inverse(d, hn::NegMulAdd(mean_q, s.q, s.qq)));
  const Vector scale = RoundToHalf(d, a);
  return {scale, StoredZero(d, scheme, hn::NegMulAdd(mean_w, Inverse(d, scale), mean_q))};
}

// w ~ a (q - zero), zero fixed.
HWY_INLINE Parameters FitSymmetric(Floats d, const Groups& groups, const Parameters& p) {
  const Sums s = SumsOfCodes(d, groups, p);
  const Vector z = p.zero;
  const Vector product = hn::NegMulAdd(z, s.w, s.qw);
  const Vector square = hn::MulAdd(hn::NegMulAdd(hn::Set(d, 2.0f), s.q, hn::Mul(z, s.one)), z, s.qq);
  return {RoundToHalf(d, hn::Mul(product, Inverse(d, square))), z};
}

HWY_INLINE void SearchAsymmetric(Floats d, const Groups& groups, const AffineScheme& scheme, Vector lowest,
                                 Vector highest, Best& best) {
  const Vector range = hn::Sub(highest, lowest);
  const Vector per_code = hn::Set(d, 1.0f / static_cast<float>((1 << scheme.bits) - 1));
  const float cut = LargestCut(scheme.bits) / (kCuts - 1);
  for (int low = 0; low < kCuts; ++low) {
    for (int high = 0; high < kCuts; ++high) {
      const Vector from = hn::MulAdd(range, hn::Set(d, cut * static_cast<float>(low)), lowest);
      const Vector kept = hn::Mul(range, hn::Set(d, 1 - cut * static_cast<float>(low + high)));
      const Vector scale = RoundToHalf(d, hn::Mul(kept, per_code));
      Consider(d, groups, {scale, StoredZero(d, scheme, hn::Neg(hn::Mul(from, Inverse(d, scale))))}, best);
    }
  }
  for (int fit = 0; fit < kFits; ++fit)
    Consider(d, groups, FitAsymmetric(d, groups, scheme, best.parameters), best);
}

HWY_INLINE void SearchSymmetric(Floats d, const Groups& groups, const AffineScheme& scheme, Best& best) {
  const Vector start = best.parameters.scale, zero = best.parameters.zero;
  const float step = 2 * LargestCut(scheme.bits) / kShrinkages;
  for (int i = 0; i < kShrinkages; ++i) {
    const Vector scale = hn::Mul(start, hn::Set(d, 1 - step * static_cast<float>(i)));
    Consider(d, groups, {RoundToHalf(d, scale), zero}, best);
    Consider(d, groups, {RoundToHalf(d, hn::Neg(scale)), zero}, best);
  }
  for (int fit = 0; fit < kFits; ++fit) Consider(d, groups, FitSymmetric(d, groups, best.parameters), best);
}

void SearchWeightedScales(const float* values, int64_t length, const float* column_weights,
                          const TileRange& range, const AffineScheme& scheme, TileParameters& parameters) {
  const Floats d;
  for (size_t lane = 0; lane < kTileGroups; lane += hn::Lanes(d)) {
    const Groups groups = {values + lane, column_weights, length,
                           hn::Set(d, static_cast<float>((1 << scheme.bits) - 1))};
    Best best;
    best.parameters = {hn::Load(d, parameters.scales + lane), hn::Load(d, parameters.zeros + lane)};
    best.error = WeightedError(d, groups, best.parameters);
    if (scheme.symmetric)
      SearchSymmetric(d, groups, scheme, best);
    else
      SearchAsymmetric(d, groups, scheme, hn::Load(d, range.lowest + lane), hn::Load(d, range.highest + lane),
                       best);
    hn::Store(best.parameters.scale, d, parameters.scales + lane);
    hn::Store(best.parameters.zero, d, parameters.zeros + lane);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace strata {

HWY_EXPORT(SearchWeightedScales);

void search_weighted_scales(const float* values, int64_t length, const float* column_weights,
                            const TileRange& range, const AffineScheme& scheme, TileParameters& parameters) {
  HWY_DYNAMIC_DISPATCH(SearchWeightedScales)
  (values, length, column_weights, range, scheme, parameters);
}

}  // namespace strata
#endif  // HWY_ONCE
