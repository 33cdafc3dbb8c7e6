#include "strata/quantization/affine_tile.h"

#include <algorithm>

namespace strata {
namespace {

int64_t ceil_divide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Neighbouring weights of a row of the reshaped matrix belong to neighbouring groups.
bool along_columns(const AffineTile& tile) {
  return tile.group_step == 1;
}

template <class T>
void scatter(const AffineTile& tile, const T* values, T* matrix) {
  T* first = matrix + tile.first_weight;
  if (along_columns(tile)) {
    for (int64_t k = 0; k < tile.length; ++k)
      std::copy_n(values + k * kTileGroups, tile.groups, first + k * tile.weight_step);
    return;
  }
  for (int64_t i = 0; i < tile.groups; ++i)
    for (int64_t k = 0; k < tile.length; ++k) first[i * tile.group_step + k] = values[k * kTileGroups + i];
}

}  // namespace

AffineTiles::AffineTiles(const AffineScheme& scheme, int64_t rows, int64_t cols)
    : rows_(rows), cols_(cols), axis_(scheme.axis) {
  if (rows == 0 || cols == 0) return;
  if (axis_ == 1) {
    group_size_ = scheme.group_size == 0 ? cols : scheme.group_size;
    groups_per_row_ = ceil_divide(cols, group_size_);
    count_ = ceil_divide(rows, kTileGroups) * groups_per_row_;
  } else {
    columns_ = group_count(scheme, rows, cols);
    length_ = ceil_divide(rows * cols, columns_);
    full_columns_ = rows * cols - (length_ - 1) * columns_;
    full_tiles_ = ceil_divide(full_columns_, kTileGroups);
    count_ = full_tiles_ + ceil_divide(columns_ - full_columns_, kTileGroups);
  }
}

AffineTile AffineTiles::operator[](int64_t index) const {
  return axis_ == 1 ? along_row(index) : along_columns(index);
}

AffineTile AffineTiles::along_row(int64_t index) const {
  const int64_t row = index / groups_per_row_ * kTileGroups, group = index % groups_per_row_;
  AffineTile tile;
  tile.groups = std::min(kTileGroups, rows_ - row);
  tile.length = std::min(group_size_, cols_ - group * group_size_);
  tile.first_weight = row * cols_ + group * group_size_;
  tile.group_step = cols_;
  tile.weight_step = 1;
  tile.first_group = row * groups_per_row_ + group;
  tile.group_number_step = groups_per_row_;
  return tile;
}

AffineTile AffineTiles::along_columns(int64_t index) const {
  const bool full = index < full_tiles_;
  const int64_t column = full ? index * kTileGroups : full_columns_ + (index - full_tiles_) * kTileGroups;
  AffineTile tile;
  tile.groups = std::min(kTileGroups, (full ? full_columns_ : columns_) - column);
  tile.length = full ? length_ : length_ - 1;
  tile.first_weight = column;
  tile.group_step = 1;
  tile.weight_step = columns_;
  tile.first_group = column;
  tile.group_number_step = 1;
  return tile;
}

void gather_tile(const AffineTile& tile, const float* weights, float* values) {
  const float* first = weights + tile.first_weight;
  if (tile.groups < kTileGroups) std::fill_n(values, tile.length * kTileGroups, 0.0f);
  if (along_columns(tile)) {
    for (int64_t k = 0; k < tile.length; ++k)
      std::copy_n(first + k * tile.weight_step, tile.groups, values + k * kTileGroups);
    return;
  }
  for (int64_t i = 0; i < tile.groups; ++i)
    for (int64_t k = 0; k < tile.length; ++k) values[k * kTileGroups + i] = first[i * tile.group_step + k];
}

void scatter_tile(const AffineTile& tile, const float* values, float* weights) {
  scatter(tile, values, weights);
}

void scatter_codes(const AffineTile& tile, const uint8_t* tile_codes, uint8_t* codes) {
  scatter(tile, tile_codes, codes);
}

}  // namespace strata
