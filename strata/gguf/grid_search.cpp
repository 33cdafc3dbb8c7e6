#include "strata/gguf/grid_search.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "strata/core/dtype.h"
#include "strata/gguf/grid_blocks.h"

#include <hwy/detect_targets.h>
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "strata/gguf/grid_search.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 8>;
using Vec = hn::Vec<Floats>;

// What each combination of levels of half a group adds to the gain, for 4 weights of 3 levels or 2 of 8;
// terms[i][k] is what weight i gains with level k.
template <int level_count>
HWY_INLINE void half_gains(const float (*terms)[8], float* HWY_RESTRICT gains) {
  if constexpr (level_count == 3) {
    float low[9];
    for (int k = 0; k < 9; ++k) low[k] = terms[0][k % 3] + terms[1][k / 3];
    for (int k = 0; k < 9; ++k) {
      const float high = terms[2][k % 3] + terms[3][k / 3];
      for (int j = 0; j < 9; ++j) gains[9 * k + j] = low[j] + high;
    }
  } else {
    for (int k = 0; k < 8; ++k)
      for (int j = 0; j < 8; ++j) gains[8 * k + j] = terms[0][j] + terms[1][k];
  }
}

// The gains of all halves lie in whole vectors; what is beyond them never wins.
constexpr float kNever = -3e38f;

template <int room>
HWY_INLINE float largest_of(const float* gains) {
  const Floats f;
  Vec largest = hn::Load(f, gains);
  for (int k = static_cast<int>(hn::Lanes(f)); k < room; k += static_cast<int>(hn::Lanes(f)))
    largest = hn::Max(largest, hn::Load(f, gains + k));
  return hn::GetLane(hn::MaxOfLanes(f, largest));
}

// Calls visit(index) for all gains of at least `bound`.
template <int room, class Visit>
HWY_INLINE void for_gains_from(const float* gains, float bound, const Visit& visit) {
  const Floats f;
  for (int k = 0; k < room; k += static_cast<int>(hn::Lanes(f))) {
    uint8_t bits[8] = {};
    hn::StoreMaskBits(f, hn::Ge(hn::Load(f, gains + k), hn::Set(f, bound)), bits);
    for (uint32_t rest = bits[0]; rest != 0; rest &= rest - 1) visit(k + __builtin_ctz(rest));
  }
}

// The point that has of each weight the nearest level, which is then the nearest point; -1 where the grid
// lacks that combination.
template <int level_count>
HWY_INLINE int free_point(const Grid& grid, const float* a, float inverse_scale) {
  constexpr int dimensions = level_count == 3 ? 8 : 4;
  int combination = 0;
  for (int i = dimensions - 1; i >= 0; --i) {
    const float t = a[i] * inverse_scale;
    int level;
    if constexpr (level_count == 3) {
      level = (t > (grid.levels[0] + grid.levels[1]) / 2) + (t > (grid.levels[1] + grid.levels[2]) / 2);
    } else {
      // All but the last are odd multiples of the first.
      const float step = t / (2 * grid.levels[0]);
      level = step >= 7 ? 7 : step > 0 ? static_cast<int>(step) : 0;
      if (level == 7 && t < (grid.levels[6] + grid.levels[7]) / 2) level = 6;
    }
    combination = level_count * combination + level;
  }
  return grid.point_of[static_cast<size_t>(combination)];
}

// The point with the largest gain; `known` is one that is likely near, or -1. First halves whose gain could
// not win with any second half are passed over, which most are once a near point has been tried.
template <int level_count>
HWY_INLINE int nearest_point(const Grid& grid, const float* a, const float* w, float half_scale, int known) {
  constexpr int half_count = level_count == 3 ? 81 : 64, half_dimensions = level_count == 3 ? 4 : 2;
  const int free = free_point<level_count>(grid, a, half_scale > 0 ? 0.5f / half_scale : 0);
  if (free >= 0) return free;
  constexpr int kRoom = (half_count + 7) / 8 * 8;
  float terms[2 * half_dimensions][8];
  for (int i = 0; i < 2 * half_dimensions; ++i) {
    const float weight = w == nullptr ? 1.0f : w[i];
    for (int k = 0; k < level_count; ++k) {
      const float level = grid.levels[k];
      terms[i][k] = weight * level * (a[i] - half_scale * level);
    }
  }
  alignas(32) float first[kRoom], second[kRoom];
  std::fill(first + half_count, first + kRoom, kNever);
  std::fill(second + half_count, second + kRoom, kNever);
  half_gains<level_count>(terms, first);
  half_gains<level_count>(terms + half_dimensions, second);
  const float largest_second = largest_of<kRoom>(second);
  float best = kNever;
  int point = 0;
  const auto try_members = [&](int half) HWY_ATTR {
    if (first[half] + largest_second <= best) return;
    for (int m = grid.starts[half]; m < grid.starts[half + 1]; ++m) {
      const Grid::Member member = grid.members[m];
      const float gain = first[half] + second[member.second_half];
      point = gain > best ? member.point : point;
      best = std::max(gain, best);
    }
  };
  if (known >= 0) {
    const int combination = grid.combination_of[static_cast<size_t>(known)];
    best = first[combination % half_count] + second[combination / half_count];
    point = known;
  } else {
    for_gains_from<kRoom>(first, largest_of<kRoom>(first), try_members);
  }
  for_gains_from<kRoom>(first, best - largest_second, try_members);
  return point;
}

// S(w a g) and S(w g g) of chosen points.
struct Sums {
  float product = 0, square = 0;

  float scale() const { return square > 0 ? product / square : 0; }
  float gain() const { return product > 0 && square > 0 ? product * product / square : 0; }  // at that scale
  float gain_at(float scale) const { return scale * (2 * product - scale * square); }
};

template <bool weighted>
class BlockSearch {
 public:
  BlockSearch(const Grid& grid, const GridScaling& scaling, GridFields& fields)
      : grid_(grid), scaling_(scaling), fields_(fields) {
    groups_ = 256 / grid_.dimensions;
    sub_blocks_ = 256 / scaling_.sub_block;
    groups_each_ = groups_ / sub_blocks_;
    top_ = grid_.levels[grid_.level_count - 1];
  }

  // `importance` is null without weights.
  void run(const float* weights, const float* importance) {
    fields_ = {};
    take_signs(weights, importance);
    search_scales(importance);
    choose_block_scale(importance);
  }

 private:
  // Where signs must be even in number, the weight that matters least is taken with the wrong one.
  void take_signs(const float* weights, const float* importance) {
    constexpr float kLargest = 1e9f;  // squares stay finite
    for (int s = 0; s < 32; ++s) {
      uint32_t signs = 0;
      int least = 0;
      float least_matter = 3e38f;
      for (int i = 0; i < 8; ++i) {
        const int at = 8 * s + i;
        const float x = weights[at] > -kLargest ? std::min(weights[at], kLargest) : -kLargest;
        signs |= static_cast<uint32_t>(x < 0) << i;
        magnitudes_[at] = std::abs(x);
        const float matter = (weighted ? importance[at] : 1.0f) * x * x;
        if (matter < least_matter) {
          least_matter = matter;
          least = i;
        }
      }
      if (scaling_.even_signs && __builtin_popcount(signs) % 2 == 1) {
        signs ^= 1u << least;
        magnitudes_[8 * s + least] = -magnitudes_[8 * s + least];
      }
      fields_.signs[s] = static_cast<uint8_t>(signs);
    }
  }

  // The nearest points of a sub-block's groups under a scale, and their sums; `points` holds near ones where
  // they are known.
  Sums choose_points(int sub_block, const float* importance, float scale, bool known,
                     uint16_t* points) const {
    Sums sums;
    for (int k = 0; k < groups_each_; ++k) {
      const int first = (sub_block * groups_each_ + k) * grid_.dimensions;
      const float* a = magnitudes_ + first;
      const float* w = weighted ? importance + first : nullptr;
      const int near = known ? points[k] : -1;
      const int point = grid_.level_count == 3 ? nearest_point<3>(grid_, a, w, scale / 2, near)
                                               : nearest_point<8>(grid_, a, w, scale / 2, near);
      const float* levels = grid_.by_point.data() + point * grid_.dimensions;
      for (int i = 0; i < grid_.dimensions; ++i) {
        const float weighed = weighted ? levels[i] * w[i] : levels[i];
        sums.product += weighed * a[i];
        sums.square += weighed * levels[i];
      }
      points[k] = static_cast<uint16_t>(point);
    }
    return sums;
  }

  // The level nearest to a magnitude t, were every weight free to take its own: 8, 25, 43 or evenly spaced.
  HWY_INLINE Vec free_level(Vec t) const {
    const Floats f;
    if (grid_.dimensions == 8) {
      const Vec second = hn::IfThenElseZero(hn::Gt(t, hn::Set(f, 16.5f)), hn::Set(f, 17.0f));
      return hn::Add(hn::Add(hn::Set(f, 8.0f), second),
                     hn::IfThenElseZero(hn::Gt(t, hn::Set(f, 34.0f)), hn::Set(f, 18.0f)));
    }
    const float step = grid_.levels[0];  // the levels are its odd multiples
    const Vec index = hn::Round(hn::MulSub(t, hn::Set(f, 0.5f / step), hn::Set(f, 0.5f)));
    const Vec kept = hn::Min(hn::Max(index, hn::Zero(f)), hn::Set(f, 7.0f));
    return hn::Mul(hn::MulAdd(kept, hn::Set(f, 2.0f), hn::Set(f, 1.0f)), hn::Set(f, step));
  }

  // Sums over a sub-block with free levels under a scale.
  Sums free_sums(int sub_block, const float* importance, float scale) const {
    const Floats f;
    const auto lanes = static_cast<int>(hn::Lanes(f));
    Vec product = hn::Zero(f), square = hn::Zero(f);
    const int first = sub_block * scaling_.sub_block;
    for (int i = first; i < first + scaling_.sub_block; i += lanes) {
      const Vec a = hn::Load(f, magnitudes_ + i);
      const Vec level = free_level(hn::Mul(a, hn::Set(f, 1 / scale)));
      const Vec weighed = weighted ? hn::Mul(level, hn::LoadU(f, importance + i)) : level;
      product = hn::MulAdd(weighed, a, product);
      square = hn::MulAdd(weighed, level, square);
    }
    return {hn::GetLane(hn::SumOfLanes(f, product)), hn::GetLane(hn::SumOfLanes(f, square))};
  }

  // A first scale of a sub-block: of a few that map its largest weight near the top level the best with free
  // levels.
  float first_scale(int sub_block, const float* importance) const {
    constexpr std::array<float, 6> kShares = {0.6f, 0.72f, 0.85f, 1.0f, 1.2f, 1.4f};
    const float* a = magnitudes_ + sub_block * scaling_.sub_block;
    float largest = 0;
    for (int i = 0; i < scaling_.sub_block; ++i) largest = std::max(largest, std::abs(a[i]));
    if (!(largest > 1e-30f)) return 0;
    float best = 0, best_gain = 0;
    const auto consider = [&](float scale) {
      const Sums sums = free_sums(sub_block, importance, scale);
      if (sums.gain() <= 1.000001f * best_gain) return;  // of equal ones the first
      best_gain = sums.gain();
      best = sums.scale();
    };
    consider(largest / grid_.levels[0]);  // weights of one size: every grid has the point of lowest levels
    for (const float share : kShares) consider(largest / top_ * share);
    return best;
  }

  // Scales of their own for all sub-blocks, from the points that the first ones lead to.
  void search_scales(const float* importance) {
    for (int b = 0; b < sub_blocks_; ++b) {
      const float first = first_scale(b, importance);
      uint16_t* points = fields_.points + b * groups_each_;
      sums_[b] = first > 0 ? choose_points(b, importance, first, false, points) : Sums{};
      scales_[b] = std::max(sums_[b].scale(), 0.0f);
    }
  }

  static int stored_scale(float scale, float unit) {
    return std::clamp(static_cast<int>(std::lround((scale / unit - 1) / 2)), 0, 15);
  }

  // What the block gains with sub-blocks' scales as odd multiples of a unit, points as they are.
  float gain_of(float unit) const {
    float gain = 0;
    for (int b = 0; b < sub_blocks_; ++b)
      gain += sums_[b].gain_at(unit * static_cast<float>(2 * stored_scale(scales_[b], unit) + 1));
    return gain;
  }

  // The unit that fits the sub-blocks' scales best; with it the points anew; and the unit refitted to those.
  void choose_block_scale(const float* importance) {
    const float largest = *std::max_element(scales_, scales_ + sub_blocks_);
    if (!(largest > 0)) return;
    float best = 0, best_gain = -3e38f;
    for (float multiple = 33; multiple > 14; multiple -= 1) {
      const float gain = gain_of(largest / multiple);
      if (gain <= best_gain) continue;
      best_gain = gain;
      best = largest / multiple;
    }
    const float unit = half_to_float(stored_unit(best)) * scaling_.unit;
    if (!(unit > 0)) return;
    Sums total;
    for (int b = 0; b < sub_blocks_; ++b) {
      const int s = stored_scale(scales_[b], unit);
      const auto m = static_cast<float>(2 * s + 1);
      fields_.scales[b] = static_cast<uint8_t>(s);
      const Sums sums =
          choose_points(b, importance, unit * m, sums_[b].square > 0, fields_.points + b * groups_each_);
      total.product += m * sums.product;
      total.square += m * m * sums.square;
    }
    fields_.d = stored_unit(std::max(total.scale(), 0.0f));
  }

  uint16_t stored_unit(float unit) const {
    constexpr float kLargestHalf = 65504;
    return float_to_half(std::min(unit / scaling_.unit, kLargestHalf));
  }

  const Grid& grid_;
  const GridScaling scaling_;
  int groups_ = 0, sub_blocks_ = 0, groups_each_ = 0;
  float top_ = 0;
  GridFields& fields_;
  alignas(32) float magnitudes_[256];
  float scales_[16] = {};
  Sums sums_[16];
};

void search_block(const Grid& grid, const GridScaling& scaling, const float* weights, const float* importance,
                  GridFields& fields) {
  if (importance)
    BlockSearch<true>(grid, scaling, fields).run(weights, importance);
  else
    BlockSearch<false>(grid, scaling, fields).run(weights, nullptr);
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace strata {

HWY_EXPORT(search_block);

void search_grid_block(const Grid& grid, const GridScaling& scaling, const float* weights,
                       const float* importance, GridFields& fields) {
  HWY_DYNAMIC_DISPATCH(search_block)(grid, scaling, weights, importance, fields);
}

}  // namespace strata
#endif  // HWY_ONCE
