// The steps on one tile, compiled for every vector instruction set and chosen when the program runs.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "strata/quantization/affine_kernels.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include <numeric>

#include "strata/quantization/affine_tile.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kTileGroups>;
using Vector = hn::Vec<Floats>;

bool RangeOfTile(const float* values, int64_t length, TileRange& range) {
  const Floats d;
  auto not_finite = hn::Zero(d);  // w * 0 is NaN for infinities and NaNs
  for (size_t lane = 0; lane < kTileGroups; lane += hn::Lanes(d)) {
    Vector lowest = hn::Load(d, values + lane), highest = lowest;
    for (int64_t k = 0; k < length; ++k) {
      const Vector w = hn::Load(d, values + k * kTileGroups + lane);
      lowest = hn::Min(lowest, w);
      highest = hn::Max(highest, w);
      not_finite = hn::MulAdd(w, hn::Zero(d), not_finite);
    }
    hn::Store(lowest, d, range.lowest + lane);
    hn::Store(highest, d, range.highest + lane);
  }
  return hn::AllTrue(d, hn::Eq(not_finite, hn::Zero(d)));
}

HWY_INLINE Vector Inverse(Floats d, Vector scale) {
  return hn::IfThenElseZero(hn::Ne(scale, hn::Zero(d)), hn::Div(hn::Set(d, 1.0f), scale));
}

HWY_INLINE Vector NearestCode(Floats d, Vector w, Vector inverse, Vector zero, Vector max_code) {
  return hn::Min(hn::Max(hn::Round(hn::MulAdd(w, inverse, zero)), hn::Zero(d)), max_code);
}

void EncodeTile(const float* values, int64_t length, const TileParameters& parameters, int max_code,
                uint8_t* codes) {
  const Floats d;
  const hn::Rebind<int32_t, Floats> integers;
  const hn::Rebind<uint8_t, Floats> bytes;
  const Vector top = hn::Set(d, static_cast<float>(max_code));
  for (size_t lane = 0; lane < kTileGroups; lane += hn::Lanes(d)) {
    const Vector inverse = Inverse(d, hn::Load(d, parameters.scales + lane));
    const Vector zero = hn::Load(d, parameters.zeros + lane);
    for (int64_t k = 0; k < length; ++k) {
      const int64_t at = k * kTileGroups + static_cast<int64_t>(lane);
      const Vector code = NearestCode(d, hn::Load(d, values + at), inverse, zero, top);
      hn::StoreU(hn::DemoteTo(bytes, hn::ConvertTo(integers, code)), bytes, codes + at);
    }
  }
}

// Adds the squares of all lanes in double precision, so that neither length nor magnitude matters.
class SquareSum {
 public:
  HWY_INLINE SquareSum() : low_(hn::Zero(Doubles())), high_(hn::Zero(Doubles())) {}

  HWY_INLINE void Add(Vector x) {
#if HWY_TARGET == HWY_SCALAR
    low_ = hn::MulAdd(hn::PromoteTo(Doubles(), x), hn::PromoteTo(Doubles(), x), low_);
#else
    const auto low = hn::PromoteTo(Doubles(), hn::LowerHalf(x));
    const auto high = hn::PromoteTo(Doubles(), hn::UpperHalf(hn::Half<Floats>(), x));
    low_ = hn::MulAdd(low, low, low_);
    high_ = hn::MulAdd(high, high, high_);
#endif
  }

  HWY_INLINE double Total() const {
    HWY_ALIGN double sums[kTileGroups];
    hn::Store(hn::Add(low_, high_), Doubles(), sums);
    return std::accumulate(sums, sums + hn::Lanes(Doubles()), 0.0);
  }

 private:
#if HWY_TARGET == HWY_SCALAR
  using Doubles = hn::Rebind<double, Floats>;
#else
  using Doubles = hn::Rebind<double, hn::Half<Floats> >;
#endif
  hn::Vec<Doubles> low_, high_;
};

double RoundTile(float* values, int64_t length, const TileParameters& parameters, int max_code) {
  const Floats d;
  const Vector top = hn::Set(d, static_cast<float>(max_code));
  SquareSum squared_error;
  for (size_t lane = 0; lane < kTileGroups; lane += hn::Lanes(d)) {
    const Vector scale = hn::Load(d, parameters.scales + lane), inverse = Inverse(d, scale);
    const Vector zero = hn::Load(d, parameters.zeros + lane);
    for (int64_t k = 0; k < length; ++k) {
      float* at = values + k * kTileGroups + lane;
      const Vector w = hn::Load(d, at);
      const Vector rounded = hn::Mul(hn::Sub(NearestCode(d, w, inverse, zero, top), zero), scale);
      hn::Store(rounded, d, at);
      squared_error.Add(hn::Sub(w, rounded));
    }
  }
  return squared_error.Total();
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace strata {

HWY_EXPORT(RangeOfTile);
HWY_EXPORT(EncodeTile);
HWY_EXPORT(RoundTile);

bool range_of_tile(const float* values, int64_t length, TileRange& range) {
  return HWY_DYNAMIC_DISPATCH(RangeOfTile)(values, length, range);
}

void encode_tile(const float* values, int64_t length, const TileParameters& parameters, int max_code,
                 uint8_t* codes) {
  HWY_DYNAMIC_DISPATCH(EncodeTile)(values, length, parameters, max_code, codes);
}

double round_tile(float* values, int64_t length, const TileParameters& parameters, int max_code) {
  return HWY_DYNAMIC_DISPATCH(RoundTile)(values, length, parameters, max_code);
}

}  // namespace strata
#endif  // HWY_ONCE
