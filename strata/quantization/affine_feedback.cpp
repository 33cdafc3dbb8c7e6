#include "strata/quantization/affine_feedback.h"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/quantization/affine_storage.h"
#include "strata/quantization/affine_tile.h"
#include "strata/quantization/rtn.h"
#include "strata/quantization/weighted_scales.h"

namespace strata {
namespace {

constexpr int64_t kBlock = 128;  // a multiple of every group size
constexpr int64_t kTilesPerTask = 4;

// The part of a block that belongs to up to 16 rows: column k of row i at values[16 k + i].
struct RowTile {
  int64_t first_row = 0, rows = 0;
  float* values = nullptr;
};

class AffineRounder : public ColumnRounder {
 public:
  AffineRounder(MatrixView<const float> weights, const Scheme& scheme, const FeedbackOptions& options)
      : weights_(weights),
        options_(options),
        columns_(options.order),
        max_code_((1 << scheme.affine.bits) - 1) {
    matrix_.scheme = scheme;
    matrix_.rows = weights.rows;
    matrix_.cols = weights.cols;
    affine().scheme = scheme.affine;
    affine().rows = weights.rows;
    affine().cols = weights.cols;
    if (columns_.empty())
      for (int64_t c = 0; c < weights.cols; ++c) columns_.push_back(c);
    decide_static_groups();
    if (static_) return;
    affine().codes.resize(static_cast<size_t>(weights.size()));
    affine().scales.resize(static_cast<size_t>(group_count(scheme.affine, weights.rows, weights.cols)));
    affine().zeros.resize(affine().scales.size());
    if (!options_.order.empty()) number_groups_by_order();
  }

  int64_t block_size() const override { return kBlock; }

  void round(const FeedbackBlock& block) override {
    const int64_t tiles = (weights_.rows + kTileGroups - 1) / kTileGroups;
    parallel_for(tiles, kTilesPerTask, [&](int64_t begin, int64_t end) {
      const auto values = hwy::AllocateAligned<float>(static_cast<size_t>(block.count * kTileGroups));
      for (int64_t t = begin; t < end; ++t) {
        RowTile tile;
        tile.first_row = t * kTileGroups;
        tile.rows = std::min(kTileGroups, weights_.rows - tile.first_row);
        tile.values = values.get();
        gather(block, tile);
        round_tile_columns(block, tile);
      }
    });
  }

  QuantizedMatrix finish() override { return std::move(matrix_); }

 private:
  AffineMatrix& affine() { return matrix_.affine; }
  const AffineScheme& scheme() const { return matrix_.scheme.affine; }
  int64_t group_size() const { return scheme().group_size == 0 ? weights_.cols : scheme().group_size; }
  int64_t groups_per_row() const { return (weights_.cols + group_size() - 1) / group_size(); }

  int64_t column_at(int64_t place) const { return columns_[static_cast<size_t>(place)]; }

  void number_groups_by_order() {
    affine().group_of_column.resize(static_cast<size_t>(weights_.cols));
    for (int64_t place = 0; place < weights_.cols; ++place)
      affine().group_of_column[static_cast<size_t>(column_at(place))] =
          static_cast<int32_t>(place / group_size());
  }

  // Scales of whole rows, of groups across rows and those stored over the whole matrix cannot wait.
  void decide_static_groups() {
    const bool over_matrix = scheme().axis == 0 || scheme().scales == ScaleStorage::SecondLevel;
    static_ = options_.scales == GroupScales::Static || over_matrix || scheme().group_size == 0;
    if (!static_) {
      check_finite();
      return;
    }
    QuantizerOptions start;
    start.name = over_matrix ? "hqq" : "rtn";
    affine() = quantize_affine(weights_, scheme(), start);
    if (over_matrix) return;
    const AffineTiles tiles(scheme(), weights_.rows, weights_.cols);
    parallel_for(tiles.count(), kTilesPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) {
        const AffineTile tile = tiles[index];
        const auto values = hwy::AllocateAligned<float>(static_cast<size_t>(tile.length * kTileGroups));
        gather_tile(tile, weights_.data, values.get());
        const TileParameters parameters = choose(
            values.get(), tile.length, options_.column_weights.data() + tile.first_weight % weights_.cols);
        for (int64_t i = 0; i < tile.groups; ++i) {
          const int64_t group = tile.first_group + i * tile.group_number_step;
          affine().scales[static_cast<size_t>(group)] = parameters.scales[i];
          affine().zeros[static_cast<size_t>(group)] = parameters.zeros[i];
        }
      }
    });
  }

  void check_finite() const {
    for (int64_t at = 0; at < weights_.size(); ++at)
      if (!std::isfinite(weights_.data[at]))
        fail("the weight in row {}, column {} is {}; a finite number was expected", at / weights_.cols,
             at % weights_.cols, weights_.data[at]);
  }

  // The fp16 scales and zero points of 16 groups.
  TileParameters choose(const float* values, int64_t length, const float* column_weights) const {
    TileRange range;
    if (!range_of_tile(values, length, range))
      fail("error feedback gave a weight that is not finite; use more damping");
    TileParameters parameters;
    for (int64_t i = 0; i < kTileGroups; ++i) {
      parameters.scales[i] =
          stored_half_scale(rtn_scale(scheme(), range.lowest[i], range.highest[i]), max_code_);
      parameters.zeros[i] =
          stored_half_zero(rtn_zero(scheme(), range.lowest[i], range.highest[i], parameters.scales[i]));
    }
    search_weighted_scales(values, length, column_weights, range, scheme(), parameters);
    return parameters;
  }

  void gather(const FeedbackBlock& block, const RowTile& tile) const {
    if (tile.rows < kTileGroups) std::fill_n(tile.values, block.count * kTileGroups, 0.0f);
    for (int64_t i = 0; i < tile.rows; ++i) {
      const float* row = block.weights + (tile.first_row + i) * block.count;
      for (int64_t k = 0; k < block.count; ++k) tile.values[k * kTileGroups + i] = row[k];
    }
  }

  void round_tile_columns(const FeedbackBlock& block, const RowTile& tile) {
    TileParameters parameters = {};
    int64_t group_end = 0;  // of the group whose parameters these are, counted in the block
    for (int64_t k = 0; k < block.count; ++k) {
      if (static_) {
        recall(column_at(block.first + k), tile, parameters);
      } else if (k == group_end) {
        group_end = std::min(block.count, k + group_size());
        parameters = reach_group(block, k, group_end - k, tile);
      }
      round_column(block, k, tile, parameters);
    }
  }

  TileParameters reach_group(const FeedbackBlock& block, int64_t k, int64_t length, const RowTile& tile) {
    std::vector<float> column_weights(static_cast<size_t>(length));
    for (int64_t j = 0; j < length; ++j)
      column_weights[static_cast<size_t>(j)] =
          options_.column_weights[static_cast<size_t>(column_at(block.first + k + j))];
    const TileParameters parameters = choose(tile.values + k * kTileGroups, length, column_weights.data());
    for (int64_t i = 0; i < tile.rows; ++i) {
      const int64_t group = (tile.first_row + i) * groups_per_row() + (block.first + k) / group_size();
      affine().scales[static_cast<size_t>(group)] = parameters.scales[i];
      affine().zeros[static_cast<size_t>(group)] = parameters.zeros[i];
    }
    return parameters;
  }

  void recall(int64_t column, const RowTile& tile, TileParameters& parameters) {
    for (int64_t i = 0; i < tile.rows; ++i) {
      const int64_t row = tile.first_row + i;
      const int64_t group =
          scheme().axis == 0 ? (row * weights_.cols + column) % static_cast<int64_t>(affine().scales.size())
                             : row * groups_per_row() + column / group_size();
      parameters.scales[i] = affine().scales[static_cast<size_t>(group)];
      parameters.zeros[i] = affine().zeros[static_cast<size_t>(group)];
    }
  }

  void round_column(const FeedbackBlock& block, int64_t k, const RowTile& tile,
                    const TileParameters& parameters) {
    alignas(64) float rounded[kTileGroups];
    alignas(64) float errors[kTileGroups];
    uint8_t codes[kTileGroups];
    float* values = tile.values + k * kTileGroups;
    encode_tile(values, 1, parameters, max_code_, codes);
    std::copy_n(values, kTileGroups, rounded);
    round_tile(rounded, 1, parameters, max_code_);
    const float inverse = 1 / block.factor[k * block.count + k];
    for (int64_t i = 0; i < kTileGroups; ++i) errors[i] = (values[i] - rounded[i]) * inverse;
    spread_errors(errors, block.factor + k * block.count + k + 1, block.count - k - 1, values + kTileGroups);
    const int64_t column = column_at(block.first + k);
    for (int64_t i = 0; i < tile.rows; ++i) {
      affine().codes[static_cast<size_t>((tile.first_row + i) * weights_.cols + column)] = codes[i];
      block.errors[(tile.first_row + i) * block.count + k] = errors[i];
    }
  }

  MatrixView<const float> weights_;
  FeedbackOptions options_;
  std::vector<int64_t> columns_;  // in the order of quantization
  int max_code_;
  bool static_ = false;
  QuantizedMatrix matrix_;
};

}  // namespace

std::unique_ptr<ColumnRounder> make_affine_rounder(MatrixView<const float> weights, const Scheme& scheme,
                                                   const FeedbackOptions& options) {
  return std::make_unique<AffineRounder>(weights, scheme, options);
}

}  // namespace strata
