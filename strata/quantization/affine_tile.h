#pragma once

#include <cstdint>

#include "strata/quantization/scheme.h"

namespace strata {

// Groups that lie side by side in a tile: one vector lane works on one group.
constexpr int64_t kTileGroups = 16;

// Up to kTileGroups groups of equal length. Weight k of the tile's group i is weights[first_weight + i *
// group_step + k * weight_step], its group's number first_group + i * group_number_step.
struct AffineTile {
  int64_t groups = 0, length = 0;
  int64_t first_weight = 0, group_step = 0, weight_step = 0;
  int64_t first_group = 0, group_number_step = 0;
};

// The groups of a [rows, cols] matrix cut into tiles. Axis 1: a tile takes the same columns of kTileGroups
// rows. Axis 0: kTileGroups neighbouring columns of W.reshape(group_size, -1).
class AffineTiles {
 public:
  AffineTiles(const AffineScheme& scheme, int64_t rows, int64_t cols);

  int64_t count() const { return count_; }
  AffineTile operator[](int64_t index) const;

 private:
  AffineTile along_row(int64_t index) const;
  AffineTile along_columns(int64_t index) const;

  int64_t rows_, cols_, axis_;
  int64_t group_size_ = 0;      // axis 1
  int64_t groups_per_row_ = 0;  // axis 1
  int64_t columns_ = 0;         // axis 0: columns of the reshaped matrix
  int64_t length_ = 0;          // axis 0: rows of the reshaped matrix, the last one perhaps partial
  int64_t full_columns_ = 0;    // axis 0: columns that reach the last row
  int64_t full_tiles_ = 0;
  int64_t count_ = 0;
};

// The largest and smallest weight of each group of a tile.
struct TileRange {
  alignas(64) float lowest[kTileGroups];
  alignas(64) float highest[kTileGroups];
};

// Scales and zero points of a tile's groups, as stored.
struct TileParameters {
  alignas(64) float scales[kTileGroups];
  alignas(64) float zeros[kTileGroups];
};

// In a tile buffer, weight k of group i stands at values[k * kTileGroups + i]; groups that a narrow tile
// lacks are zero. Buffers are aligned to 64 bytes.
void gather_tile(const AffineTile& tile, const float* weights, float* values);
void scatter_tile(const AffineTile& tile, const float* values, float* weights);
void scatter_codes(const AffineTile& tile, const uint8_t* tile_codes, uint8_t* codes);

// False when a value is not finite.
bool range_of_tile(const float* values, int64_t length, TileRange& range);

// codes = clamp(round(w / scale + zero), 0, max_code); all codes are 0 where the scale is 0.
void encode_tile(const float* values, int64_t length, const TileParameters& parameters, int max_code,
                 uint8_t* codes);

// Replaces every value by (code - zero) * scale of its code; returns the sum of (w - w')^2.
double round_tile(float* values, int64_t length, const TileParameters& parameters, int max_code);

}  // namespace strata
