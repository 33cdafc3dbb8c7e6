// The fields of blocks of 256: the scales (and minima) of all sub-blocks are integer multiples of one (two)
// fp16 numbers, and are chosen together with them.
//
// 1. Every sub-block's own best fit (search-inl.h).
// 2. d, dmin so that the largest of these fits the range of the integers.
// 3. For every sub-block the integers near its own fit; with each, the best codes; the least error wins.
// 4. d, dmin by least squares over the block with all codes and integers fixed; back to 3 a few times.
// The state with the least total error wins.

#if defined(STRATA_GGUF_SUPERBLOCK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_GGUF_SUPERBLOCK_INL_H
#undef STRATA_GGUF_SUPERBLOCK_INL_H
#else
#define STRATA_GGUF_SUPERBLOCK_INL_H
#endif

#include <algorithm>
#include <cmath>
#include <limits>

#include "strata/core/dtype.h"
#include "strata/gguf/half.h"
#include "strata/gguf/search-inl.h"
#include "strata/gguf/super_blocks.h"
#include "strata/gguf/tuning.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {

constexpr int most_sub_blocks = 16;

// One value a sub-block.
struct alignas(64) PerSubBlock {
  float at[most_sub_blocks];

  HWY_INLINE Vec column(int s) const { return load(at + s); }
  HWY_INLINE void set(int s, Vec v) { store(v, at + s); }
};

// Calls body(first sub-block, its Column) for all columns of a block of 256.
template <bool weighted, class Body>
HWY_INLINE void for_columns(const float* lanes, const float* weight_lanes, int sub_blocks, const Body& body) {
  const int size = 256 / sub_blocks;
  for (int s = 0; s < sub_blocks; s += column_width) {
    const int start = s / lane_count * lane_count * size + s % lane_count;
    body(s, Column<weighted>{lanes + start, weighted ? weight_lanes + start : nullptr, size});
  }
}

// Over the first 8 or 16, in four parts that need not wait for each other.
HWY_INLINE double sum(const PerSubBlock& values, int count) {
  double part[4] = {};
  for (int s = 0; s < count; s += 4)
    for (int k = 0; k < 4; ++k) part[k] += values.at[s + k];
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// ---- x ~ d s q: Q3_K, Q6_K with 16 sub-blocks, IQ4_XS with 8 ----

struct SymmetricState {
  float d = 0;  // as stored
  PerSubBlock scales{};
  double gain = -std::numeric_limits<double>::infinity();  // S(w x x) less the squared error
  float refitted_d = 0;  // the d that fits best with these codes and scales: S(s q x) / S(s^2 q q)
};

template <bool weighted, int sub_blocks, class Levels>
HWY_INLINE SymmetricState choose_scales(const SymmetricTuning& tuning, const Levels& levels,
                                        const float* lanes, const float* weight_lanes, float d,
                                        const PerSubBlock& wanted, Offsets offsets) {
  SymmetricState state;
  state.d = d;
  PerSubBlock gains, products, squares;
  const float inverse_d = 1 / d;
  for_columns<weighted>(lanes, weight_lanes, sub_blocks, [&](int s, const Column<weighted>& column) HWY_ATTR {
    const Vec middle = hn::Round(bounded(hn::Mul(wanted.column(s), splat(inverse_d))));
    Vec best = zero(), most = splat(-std::numeric_limits<float>::infinity()), product = zero(),
        square = zero();
    for (int offset = offsets.first; offset <= offsets.last; ++offset) {
      const Vec scale = clamp(hn::Add(middle, splat(static_cast<float>(offset))), splat(tuning.scale_low),
                              splat(tuning.scale_high));
      const Vec a = hn::Mul(scale, splat(d));
      const SymmetricSums sums = symmetric_sums(column, levels, ratio(splat(1), a));
      const Vec aq = hn::Mul(a, sums.qq);
      const Vec gain = hn::Mul(a, hn::Sub(hn::Add(sums.qx, sums.qx), aq));
      const Mask better = hn::Gt(gain, most);
      best = hn::IfThenElse(better, scale, best);
      product = hn::IfThenElse(better, hn::Mul(scale, sums.qx), product);
      square = hn::IfThenElse(better, hn::Mul(hn::Mul(scale, scale), sums.qq), square);
      most = hn::Max(gain, most);
    }
    state.scales.set(s, best);
    gains.set(s, most);
    products.set(s, product);
    squares.set(s, square);
  });
  state.gain = sum(gains, sub_blocks);
  const double denominator = sum(squares, sub_blocks);
  if (denominator > 0)
    state.refitted_d = stored_scale(static_cast<float>(sum(products, sub_blocks) / denominator));
  return state;
}

template <bool weighted, int sub_blocks, class Levels>
HWY_INLINE void encode_symmetric(const SymmetricTuning& tuning, const Levels& levels, const float* weights,
                                 const float* weight_lanes, SuperBlockFields& fields) {
  constexpr int size = 256 / sub_blocks;
  alignas(64) float lanes[256];
  for (int i = 0; i < 256; i += lane_count * size) to_lanes(weights + i, size, lanes + i);

  PerSubBlock own;
  for_columns<weighted>(lanes, weight_lanes, sub_blocks, [&](int s, const Column<weighted>& column) HWY_ATTR {
    own.set(s, search_scale(column, levels, tuning.candidates(weighted)));
  });
  float largest = 0;
  for (int s = 0; s < sub_blocks; ++s)
    if (std::fabs(own.at[s]) > std::fabs(largest)) largest = own.at[s];

  SymmetricState best;
  for (int k = 0; k < tuning.alternation.start_count; ++k) {
    PerSubBlock wanted = own;
    float d = stored_scale(largest / tuning.alternation.starts[k]);
    for (int round = 0; d != 0 && round < tuning.alternation.round_count; ++round) {
      const SymmetricState state = choose_scales<weighted, sub_blocks>(
          tuning, levels, lanes, weight_lanes, d, wanted, tuning.alternation.rounds[round]);
      if (state.gain > best.gain) best = state;
      d = state.refitted_d;
      for (int s = 0; s < sub_blocks; ++s) wanted.at[s] = d * state.scales.at[s];
    }
  }
  fields.d = float_to_half(best.d);
  for (int s = 0; s < sub_blocks; ++s) {
    const float scale = best.scales.at[s];
    fields.scales[s] = static_cast<int16_t>(scale);
    const float a = best.d * scale;
    levels.write(weights + size * s, size, a != 0 ? 1 / a : 0, fields.codes + size * s);
  }
}

// ---- x ~ d s q - dmin m: Q2_K, Q4_K, Q5_K ----

// A sub-block's own fit x ~ a q - min: what the integers should come near to.
struct AffineWish {
  PerSubBlock a, level;  // the scale, the mean code
};

struct AffineState {
  float d = 0, dmin = 0;  // as stored
  PerSubBlock scales{}, mins{};
  double error = std::numeric_limits<double>::infinity();
};

template <int sub_blocks>
struct AffineBlock {
  alignas(64) float lanes[256];  // reduced by the means
  const float* weight_lanes;
  PerSubBlock means, total_weights;
};

template <bool weighted, int sub_blocks>
HWY_INLINE AffineState choose_scales(const AffineTuning& tuning, const UniformLevels& levels,
                                     const AffineBlock<sub_blocks>& block, float d, float dmin,
                                     const AffineWish& wish, Offsets offsets) {
  AffineState state;
  state.d = d;
  state.dmin = dmin;
  PerSubBlock errors;
  const float inverse_d = 1 / d, inverse_dmin = dmin != 0 ? 1 / dmin : 0;
  const Vec most = splat(tuning.largest_field);
  for_columns<weighted>(
      block.lanes, block.weight_lanes, sub_blocks, [&](int s, const Column<weighted>& column) HWY_ATTR {
        const Vec mean = block.means.column(s);
        const Vec middle = hn::Round(bounded(hn::Mul(wish.a.column(s), splat(inverse_d))));
        Vec scale = zero(), min = zero(), least = splat(std::numeric_limits<float>::infinity());
        for (int offset = offsets.first; offset <= offsets.last; ++offset) {
          const Vec this_scale = clamp(hn::Add(middle, splat(static_cast<float>(offset))), zero(), most);
          const Vec a = hn::Mul(this_scale, splat(d));
          // With this scale and the same mean code, the min that meets the mean: one below and above.
          const Vec wanted_min = bounded(
              hn::Mul(hn::NegMulAdd(splat(1), mean, hn::Mul(a, wish.level.column(s))), splat(inverse_dmin)));
          const Vec nearest = hn::Round(wanted_min);
          const Vec side = hn::IfThenElse(hn::Gt(wanted_min, nearest), splat(1), splat(-1));
          for (int k = 0; k < offsets.mins; ++k) {
            const Vec step = k == 0 ? zero() : k == 1 ? side : hn::Neg(side);
            const Vec this_min = clamp(hn::Add(nearest, step), zero(), most);
            const Vec error = squared_error(column, levels, a, hn::MulAdd(this_min, splat(dmin), mean));
            const Mask better = hn::Lt(error, least);
            scale = hn::IfThenElse(better, this_scale, scale);
            min = hn::IfThenElse(better, this_min, min);
            least = hn::Min(error, least);
          }
        }
        state.scales.set(s, scale);
        state.mins.set(s, min);
        errors.set(s, least);
      });
  state.error = sum(errors, sub_blocks);
  return state;
}

// d and dmin that fit best with all codes, scales and mins fixed, from the normal equations of
// x ~ d (s q) - dmin m; and the wish for the same scales.
template <bool weighted, int sub_blocks>
HWY_INLINE void refit(const UniformLevels& levels, const AffineBlock<sub_blocks>& block,
                      const AffineState& state, AffineWish& wish, float& d, float& dmin) {
  PerSubBlock q, qq, qx;
  for_columns<weighted>(
      block.lanes, block.weight_lanes, sub_blocks, [&](int s, const Column<weighted>& column) HWY_ATTR {
        const Vec mean = block.means.column(s);
        const Vec inverse = ratio(splat(1), hn::Mul(state.scales.column(s), splat(state.d)));
        const Vec shift = hn::MulAdd(state.mins.column(s), splat(state.dmin), mean);
        const AffineSums sums = affine_sums(column, levels.high, inverse, hn::Mul(shift, inverse));
        q.set(s, sums.q);
        qq.set(s, sums.qq);
        qx.set(s, hn::MulAdd(mean, sums.q, sums.qx));
        wish.level.set(s, hn::Div(sums.q, block.total_weights.column(s)));
      });
  double ss = 0, sm = 0, mm = 0, sx = 0, mx = 0;
  for (int i = 0; i < sub_blocks; ++i) {
    const double s = state.scales.at[i], m = state.mins.at[i], w = block.total_weights.at[i];
    ss += s * s * qq.at[i];
    sm += s * m * q.at[i];
    mm += m * m * w;
    sx += s * qx.at[i];
    mx += m * w * block.means.at[i];
  }
  const double determinant = ss * mm - sm * sm;
  double new_d = d, new_dmin = dmin;
  if (determinant > 1e-9 * ss * mm) {
    new_d = (sx * mm - sm * mx) / determinant;
    new_dmin = (sx * sm - ss * mx) / determinant;
  } else if (ss > 0 && mm == 0) {
    new_d = sx / ss;
  }
  if (new_d > 0 && new_dmin >= 0) {
    d = stored_scale(static_cast<float>(new_d));
    dmin = stored_scale(static_cast<float>(new_dmin));
  }
  for (int i = 0; i < sub_blocks; ++i) wish.a.at[i] = d * state.scales.at[i];
}

template <bool weighted, int sub_blocks>
HWY_INLINE void search_own_fits(const AffineTuning& tuning, const UniformLevels& levels,
                                AffineBlock<sub_blocks>& block, AffineWish& wish, PerSubBlock& mins) {
  for_columns<weighted>(
      block.lanes, block.weight_lanes, sub_blocks, [&](int s, const Column<weighted>& column) HWY_ATTR {
        const Vec total_weight = column.total_weight();
        float* x = block.lanes + (column.x - block.lanes);
        const CentredRange range = centre(column, x, total_weight);
        const AffineFit fit =
            search_affine(column, levels.high, range, total_weight, true, tuning.candidates(weighted));
        block.means.set(s, range.mean);
        block.total_weights.set(s, total_weight);
        wish.a.set(s, fit.a);
        wish.level.set(s, fit.level);
        mins.set(s, hn::Neg(fit.b));
      });
}

template <bool weighted, int sub_blocks>
HWY_INLINE void encode_affine(const AffineTuning& tuning, const UniformLevels& levels, const float* weights,
                              const float* weight_lanes, SuperBlockFields& fields) {
  constexpr int size = 256 / sub_blocks;
  AffineBlock<sub_blocks> block;
  block.weight_lanes = weight_lanes;
  for (int i = 0; i < 256; i += lane_count * size) to_lanes(weights + i, size, block.lanes + i);
  AffineWish own;
  PerSubBlock mins;
  search_own_fits<weighted>(tuning, levels, block, own, mins);
  const float largest = *std::max_element(own.a.at, own.a.at + sub_blocks);
  const float largest_min = *std::max_element(mins.at, mins.at + sub_blocks);

  AffineState best;
  for (int k = 0; k < tuning.alternation.start_count; ++k) {
    AffineWish wish = own;
    // A block without spread still needs some d > 0.
    float d = stored_scale(std::max(largest, 1e-30f) / tuning.alternation.starts[k]);
    float dmin = largest_min > 0 ? stored_scale(largest_min / tuning.alternation.starts[k]) : 0;
    for (int round = 0; round < tuning.alternation.round_count; ++round) {
      const AffineState state =
          choose_scales<weighted>(tuning, levels, block, d, dmin, wish, tuning.alternation.rounds[round]);
      if (state.error < best.error) best = state;
      if (round + 1 < tuning.alternation.round_count) refit<weighted>(levels, block, state, wish, d, dmin);
    }
  }
  fields.d = float_to_half(best.d);
  fields.dmin = float_to_half(best.dmin);
  for (int s = 0; s < sub_blocks; ++s) {
    fields.scales[s] = static_cast<int16_t>(best.scales.at[s]);
    fields.mins[s] = static_cast<int16_t>(best.mins.at[s]);
    const float a = best.d * best.scales.at[s];
    write_codes(weights + size * s, size, best.dmin * best.mins.at[s], a != 0 ? 1 / a : 0, 0, levels.high,
                fields.codes + size * s);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#endif
