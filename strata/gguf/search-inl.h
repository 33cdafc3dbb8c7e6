// Search for the scale (and minimum) of single sub-blocks, eight at a time; see lanes-inl.h.
//
// Each candidate maps the weights to levels q; the scale that fits them best in the (weighted) least-squares
// sense follows in closed form, and with it the squared error, without a second pass:
//   x ~ a q:      a = S(w q x) / S(w q q),  error = S(w x x) - S(w q x)^2 / S(w q q)
//   x ~ a q + b:  the same with x and q reduced by their weighted means.
// The best candidate is refined by taking new levels with its fitted scale (Lloyd's iteration).

#if defined(STRATA_GGUF_SEARCH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_GGUF_SEARCH_INL_H
#undef STRATA_GGUF_SEARCH_INL_H
#else
#define STRATA_GGUF_SEARCH_INL_H
#endif

#include "strata/gguf/lanes-inl.h"
#include "strata/gguf/tuning.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {

// Sub-blocks of one column of vectors: weight i at x[8 i]; w null means weights of one.
template <bool weighted>
struct Column {
  const float* x;
  const float* w;
  int size;

  HWY_INLINE Vec weight(int i) const {
    if constexpr (weighted) return hn::LoadU(Floats(), w + lane_count * i);
    return splat(1);
  }
  HWY_INLINE Vec times_weight(Vec v, int i) const {
    if constexpr (weighted) return hn::Mul(v, weight(i));
    return v;
  }
  HWY_INLINE Vec value(int i) const { return load(x + lane_count * i); }
  HWY_INLINE Vec total_weight() const {
    if constexpr (!weighted) return splat(static_cast<float>(size));
    Vec sum = zero();
    for (int i = 0; i < size; ++i) sum = hn::Add(sum, weight(i));
    return sum;
  }
};

// The weight of largest magnitude in each sub-block, with its sign.
template <bool weighted>
HWY_INLINE Vec extreme(const Column<weighted>& column) {
  Vec low = column.value(0), high = low;
  for (int i = 1; i < column.size; ++i) {
    low = hn::Min(low, column.value(i));
    high = hn::Max(high, column.value(i));
  }
  return hn::IfThenElse(hn::Gt(hn::Neg(low), high), low, high);
}

// Sums run in two halves, even and odd weights, so that one addition need not wait for the one before. The
// halves are variables of their own: GCC keeps an array of vectors in memory.

// S(w q x) and S(w q q) with q = levels(x * inverse).
struct SymmetricSums {
  Vec qx, qq;
};

template <bool weighted, class Levels>
HWY_INLINE SymmetricSums symmetric_sums(const Column<weighted>& column, const Levels& levels, Vec inverse) {
  SymmetricSums even{zero(), zero()}, odd{zero(), zero()};
  const auto add = [&](int i, SymmetricSums& sums) HWY_ATTR {
    const Vec x = column.value(i);
    const Vec q = levels(hn::Mul(x, inverse));
    const Vec wq = column.times_weight(q, i);
    sums.qx = hn::MulAdd(wq, x, sums.qx);
    sums.qq = hn::MulAdd(wq, q, sums.qq);
  };
  for (int i = 0; i < column.size; i += 2) {
    add(i, even);
    add(i + 1, odd);
  }
  return {hn::Add(even.qx, odd.qx), hn::Add(even.qq, odd.qq)};
}

// S(w (x - a q)^2) with q = levels(x / a), x shifted by `shift`.
template <bool weighted, class Levels>
HWY_INLINE Vec squared_error(const Column<weighted>& column, const Levels& levels, Vec a, Vec shift) {
  const Vec inverse = ratio(splat(1), a);
  Vec even = zero(), odd = zero();
  const auto add = [&](int i, Vec& error) HWY_ATTR {
    const Vec x = hn::Add(column.value(i), shift);
    const Vec rest = hn::NegMulAdd(levels(hn::Mul(x, inverse)), a, x);
    error = hn::MulAdd(column.times_weight(rest, i), rest, error);
  };
  for (int i = 0; i < column.size; i += 2) {
    add(i, even);
    add(i + 1, odd);
  }
  return hn::Add(even, odd);
}

// The best scale of x ~ a q among candidates that map the weight of largest magnitude to the (real)
// level `levels[k]`.
template <bool weighted, class Levels>
HWY_INLINE Vec search_scale(const Column<weighted>& column, const Levels& levels,
                            const CandidateLevels& candidates) {
  const Vec inverse_extreme = ratio(splat(1), extreme(column));
  Vec best_gain = zero(), best = zero();
  const auto consider = [&](Vec inverse) HWY_ATTR {
    const SymmetricSums sums = symmetric_sums(column, levels, inverse);
    const Vec a = ratio(sums.qx, sums.qq);
    const Vec gain = hn::Mul(a, sums.qx);
    const Mask better = hn::Gt(gain, best_gain);
    best = hn::IfThenElse(better, a, best);
    best_gain = hn::Max(gain, best_gain);
  };
  for (int k = 0; k < candidates.count; ++k) consider(hn::Mul(inverse_extreme, splat(candidates.levels[k])));
  for (int k = 0; k < candidates.refinements; ++k) consider(ratio(splat(1), best));
  return best;
}

// Sums over q = nearest integer to x * inverse + offset within [0, high], x with weighted mean zero.
struct AffineSums {
  Vec q, qq, qx;
};

template <bool weighted>
HWY_INLINE AffineSums affine_sums(const Column<weighted>& column, float high, Vec inverse, Vec offset) {
  const UniformLevels levels{0, high};
  AffineSums even{zero(), zero(), zero()}, odd{zero(), zero(), zero()};
  const auto add = [&](int i, AffineSums& sums) HWY_ATTR {
    const Vec x = column.value(i);
    const Vec q = levels(hn::MulAdd(x, inverse, offset));
    const Vec wq = column.times_weight(q, i);
    sums.q = hn::Add(sums.q, wq);
    sums.qq = hn::MulAdd(wq, q, sums.qq);
    sums.qx = hn::MulAdd(wq, x, sums.qx);
  };
  for (int i = 0; i < column.size; i += 2) {
    add(i, even);
    add(i + 1, odd);
  }
  return {hn::Add(even.q, odd.q), hn::Add(even.qq, odd.qq), hn::Add(even.qx, odd.qx)};
}

// Weighted mean of every sub-block, and its smallest and largest weight less that mean.
struct CentredRange {
  Vec mean, smallest, largest;
};

// Takes the weighted mean off every sub-block.
template <bool weighted>
HWY_INLINE CentredRange centre(const Column<weighted>& column, float* x, Vec total_weight) {
  Vec smallest = column.value(0), largest = smallest;
  Vec even = zero(), odd = zero();
  const auto add = [&](int i, Vec& sum) HWY_ATTR {
    const Vec value = column.value(i);
    smallest = hn::Min(smallest, value);
    largest = hn::Max(largest, value);
    sum = hn::Add(sum, column.times_weight(value, i));
  };
  for (int i = 0; i < column.size; i += 2) {
    add(i, even);
    add(i + 1, odd);
  }
  const Vec mean = hn::Div(hn::Add(even, odd), total_weight);
  for (int i = 0; i < column.size; ++i) store(hn::Sub(column.value(i), mean), x + lane_count * i);
  return {mean, hn::Sub(smallest, mean), hn::Sub(largest, mean)};
}

// x + mean ~ a q + b; `level` is the weighted mean of q.
struct AffineFit {
  Vec a, b, level;
};

// The best fit among the candidates, with b <= 0 where `nonpositive` (the minimum of K types is stored
// without sign). x has weighted mean zero.
template <bool weighted>
HWY_INLINE AffineFit search_affine(const Column<weighted>& column, float largest_code,
                                   const CentredRange& range, Vec total_weight, bool nonpositive,
                                   const CandidateEnds& candidates) {
  const Vec mean = range.mean, largest = range.largest;
  const Vec smallest = nonpositive ? hn::Min(range.smallest, hn::Neg(mean)) : range.smallest;
  const Vec inverse_range = ratio(splat(1), hn::Sub(largest, smallest));
  const Vec inverse_weight = hn::Div(splat(1), total_weight);

  AffineFit best{zero(), nonpositive ? hn::Min(mean, zero()) : mean, zero()};
  // Gains are counted from x + mean ~ mean; with b <= 0 a positive mean is out of reach.
  const Vec lost = nonpositive ? hn::Max(mean, zero()) : zero();
  Vec best_gain = hn::Neg(hn::Mul(hn::Mul(lost, lost), total_weight));
  const auto consider = [&](Vec inverse, Vec offset) HWY_ATTR {
    const AffineSums sums = affine_sums(column, largest_code, inverse, offset);
    const Vec level = hn::Mul(sums.q, inverse_weight);
    const Vec spread = hn::NegMulAdd(level, sums.q, sums.qq);
    Vec a = hn::IfThenElseZero(hn::Gt(spread, zero()), ratio(sums.qx, spread));
    Vec b = hn::NegMulAdd(a, level, mean);
    Vec gain = hn::Mul(a, sums.qx);
    if (nonpositive) {
      // Where the fit would need b > 0, x ~ a q.
      const Vec qx = hn::MulAdd(mean, sums.q, sums.qx);
      const Vec through_zero = ratio(qx, sums.qq);
      const Mask above = hn::Gt(b, zero());
      a = hn::IfThenElse(above, through_zero, a);
      gain = hn::IfThenElse(
          above, hn::NegMulAdd(hn::Mul(mean, mean), total_weight, hn::Mul(through_zero, qx)), gain);
      b = hn::Min(b, zero());
    }
    const Mask better = hn::Gt(gain, best_gain);
    best.a = hn::IfThenElse(better, a, best.a);
    best.b = hn::IfThenElse(better, b, best.b);
    best.level = hn::IfThenElse(better, level, best.level);
    best_gain = hn::Max(gain, best_gain);
  };
  for (int k = 0; k < candidates.count; ++k) {
    const auto [low, high] = candidates.ends[k];
    const Vec inverse = hn::Mul(inverse_range, splat(high - low));
    consider(inverse, hn::NegMulAdd(smallest, inverse, splat(low)));
  }
  for (int k = 0; k < candidates.refinements; ++k) {
    const Vec inverse = ratio(splat(1), best.a);
    consider(inverse, hn::Mul(hn::Sub(mean, best.b), inverse));
  }
  return best;
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#endif
