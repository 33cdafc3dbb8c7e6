#include "strata/sensitivity/fourth_moment.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "strata/sensitivity/fourth_moment.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace strata::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;

// Entries come in tiles of 6 by two vectors, which with their operands fill 16 registers. A tile's operands
// are packed so that each step of the inner product reads them from consecutive addresses.
constexpr int64_t kTileRows = 6;
constexpr int64_t kBlockTiles = 16;  // row tiles that stay in the second-level cache

// values[k][first + c] * scale for c < width, k < r, then one more row of `extra`: [r + 1][width]. Columns
// beyond d are zero throughout, so that the tile's entries there are.
HWY_ATTR void pack(const float* values, int64_t r, int64_t d, int64_t first, int64_t width, double scale,
                   double extra, float* packed) {
  const int64_t inside = std::clamp<int64_t>(d - first, 0, width);
  for (int64_t k = 0; k < r; ++k, packed += width) {
    const float* row = values + k * d + first;
    for (int64_t c = 0; c < inside; ++c) packed[c] = row[c] * static_cast<float>(scale);
    std::fill(packed + inside, packed + width, 0.0f);
  }
  std::fill(packed, packed + inside, static_cast<float>(extra));
  std::fill(packed + inside, packed + width, 0.0f);
}

HWY_ATTR HWY_INLINE Vector add_fourth_power(Vector x, Vector sum) {
  const Vector square = hn::Mul(x, x);
  return hn::MulAdd(square, square, sum);
}

// Adds the fourth powers of one tile's entries to `even` and `odd`.
HWY_ATTR HWY_INLINE void add_tile(const float* HWY_RESTRICT left, const float* HWY_RESTRICT right,
                                  int64_t depth, Vector& even, Vector& odd) {
  const Floats f;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(f));
  Vector x00 = hn::Zero(f), x01 = x00, x10 = x00, x11 = x00, x20 = x00, x21 = x00, x30 = x00, x31 = x00,
         x40 = x00, x41 = x00, x50 = x00, x51 = x00;
  for (int64_t k = 0; k < depth; ++k, left += kTileRows, right += 2 * lanes) {
    const Vector r0 = hn::LoadU(f, right), r1 = hn::LoadU(f, right + lanes);
    Vector l = hn::Set(f, left[0]);
    x00 = hn::MulAdd(l, r0, x00), x01 = hn::MulAdd(l, r1, x01);
    l = hn::Set(f, left[1]);
    x10 = hn::MulAdd(l, r0, x10), x11 = hn::MulAdd(l, r1, x11);
    l = hn::Set(f, left[2]);
    x20 = hn::MulAdd(l, r0, x20), x21 = hn::MulAdd(l, r1, x21);
    l = hn::Set(f, left[3]);
    x30 = hn::MulAdd(l, r0, x30), x31 = hn::MulAdd(l, r1, x31);
    l = hn::Set(f, left[4]);
    x40 = hn::MulAdd(l, r0, x40), x41 = hn::MulAdd(l, r1, x41);
    l = hn::Set(f, left[5]);
    x50 = hn::MulAdd(l, r0, x50), x51 = hn::MulAdd(l, r1, x51);
  }
  even = add_fourth_power(x00, even), odd = add_fourth_power(x01, odd);
  even = add_fourth_power(x10, even), odd = add_fourth_power(x11, odd);
  even = add_fourth_power(x20, even), odd = add_fourth_power(x21, odd);
  even = add_fourth_power(x30, even), odd = add_fourth_power(x31, odd);
  even = add_fourth_power(x40, even), odd = add_fourth_power(x41, odd);
  even = add_fourth_power(x50, even), odd = add_fourth_power(x51, odd);
}

HWY_ATTR double SumOfFourthPowers(const float* left, const float* right, int64_t r, int64_t d, double scale,
                                  double mean) {
  const Floats f;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(f)), tile_cols = 2 * lanes, depth = r + 1;
  const int64_t panels = (d + tile_cols - 1) / tile_cols;
  std::vector<float> right_panels(static_cast<size_t>(panels * tile_cols * depth));
  std::vector<float> left_block(static_cast<size_t>(kBlockTiles * kTileRows * depth)), sums(tile_cols);
  for (int64_t p = 0; p < panels; ++p)
    pack(right, r, d, p * tile_cols, tile_cols, 1, 1, &right_panels[p * tile_cols * depth]);

  double total = 0;
  for (int64_t first = 0; first < d; first += kBlockTiles * kTileRows) {
    const int64_t tiles = std::min(kBlockTiles, (d - first + kTileRows - 1) / kTileRows);
    for (int64_t t = 0; t < tiles; ++t)
      pack(left, r, d, first + t * kTileRows, kTileRows, scale, -mean, &left_block[t * kTileRows * depth]);
    for (int64_t p = 0; p < panels; ++p) {
      Vector even = hn::Zero(f), odd = even;
      for (int64_t t = 0; t < tiles; ++t)
        add_tile(&left_block[t * kTileRows * depth], &right_panels[p * tile_cols * depth], depth, even, odd);
      hn::StoreU(even, f, sums.data());
      hn::StoreU(odd, f, sums.data() + lanes);
      for (float sum : sums) total += sum;
    }
  }
  return total;
}

}  // namespace strata::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace strata {

HWY_EXPORT(SumOfFourthPowers);

double sum_of_fourth_powers(const float* left, const float* right, int64_t r, int64_t d, double scale,
                            double mean) {
  return HWY_DYNAMIC_DISPATCH(SumOfFourthPowers)(left, right, r, d, scale, mean);
}

}  // namespace strata
#endif
