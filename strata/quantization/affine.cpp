#include "strata/quantization/affine.h"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/quantization/affine_storage.h"
#include "strata/quantization/affine_tile.h"
#include "strata/quantization/hqq.h"
#include "strata/quantization/rtn.h"

namespace strata {
namespace {

constexpr int64_t kTilesPerTask = 32;

// One tile with all that is known of its groups so far.
struct TileWork {
  AffineTile tile;
  float* values;
  TileRange range;
  TileParameters parameters;
};

// Scales and zero points of all groups, for schemes whose storage is decided over the whole matrix.
struct GroupParameters {
  std::vector<float> scales, zeros;
};

// Puts one value for each group of the tile to its place among all groups.
void remember(const TileWork& work, const float* of_tile, std::vector<float>& of_matrix) {
  for (int64_t i = 0; i < work.tile.groups; ++i)
    of_matrix[work.tile.first_group + i * work.tile.group_number_step] = of_tile[i];
}

void recall(const GroupParameters& groups, TileWork& work) {
  work.parameters = {};
  for (int64_t i = 0; i < work.tile.groups; ++i) {
    const int64_t group = work.tile.first_group + i * work.tile.group_number_step;
    work.parameters.scales[i] = groups.scales[group];
    work.parameters.zeros[i] = groups.zeros[group];
  }
}

[[noreturn]] void fail_not_finite(MatrixView<const float> weights, const AffineTile& tile) {
  for (int64_t i = 0; i < tile.groups; ++i) {
    for (int64_t k = 0; k < tile.length; ++k) {
      const int64_t at = tile.first_weight + i * tile.group_step + k * tile.weight_step;
      if (!std::isfinite(weights.data[at]))
        fail("the weight in row {}, column {} is {}; a finite number was expected", at / weights.cols,
             at % weights.cols, weights.data[at]);
    }
  }
  fail("a weight is not finite");
}

// The steps of quantizing one matrix, each over all tiles in threads.
class AffineQuantizer {
 public:
  AffineQuantizer(MatrixView<const float> weights, const AffineScheme& scheme,
                  const QuantizerOptions& options)
      : weights_(weights),
        scheme_(scheme),
        options_(options),
        tiles_(scheme, weights.rows, weights.cols),
        max_code_((1 << scheme.bits) - 1),
        hqq_(options.name == "hqq") {
    if (!hqq_ && options.name != "rtn")
      fail_usage("quantizer '{}' is not known; expected one of rtn, hqq", options.name);
    if (scheme.scales == ScaleStorage::SecondLevel) decide_second_level();
  }

  // Calls step(task, work) for every tile, its scales and zero points decided.
  template <class Step>
  void for_each_decided(const Step& step) {
    for_each_tile([&](int64_t task, TileWork& work) {
      if (scheme_.scales == ScaleStorage::SecondLevel)
        recall(groups_, work);
      else
        decide_half(work);
      step(task, work);
    });
  }

  int64_t task_count() const { return (tiles_.count() + kTilesPerTask - 1) / kTilesPerTask; }
  int max_code() const { return max_code_; }
  SecondLevelCodes& second_level() { return second_level_; }

 private:
  template <class Step>
  void for_each_tile(const Step& step) {
    parallel_for(tiles_.count(), kTilesPerTask, [&](int64_t begin, int64_t end) {
      TileWork work;
      hwy::AlignedFreeUniquePtr<float[]> buffer;
      int64_t room = 0;
      for (int64_t index = begin; index < end; ++index) {
        work.tile = tiles_[index];
        if (work.tile.length > room) {
          room = work.tile.length;
          buffer = hwy::AllocateAligned<float>(static_cast<size_t>(room * kTileGroups));
          work.values = buffer.get();
        }
        gather_tile(work.tile, weights_.data, work.values);
        if (!range_of_tile(work.values, work.tile.length, work.range)) fail_not_finite(weights_, work.tile);
        step(begin / kTilesPerTask, work);
      }
    });
  }

  void choose_scales(TileWork& work) const {
    for (int64_t i = 0; i < kTileGroups; ++i)
      work.parameters.scales[i] = rtn_scale(scheme_, work.range.lowest[i], work.range.highest[i]);
    if (hqq_ && scheme_.symmetric)
      hqq_symmetric_scales(work.values, work.tile.length, scheme_, options_.hqq_iterations, work.parameters);
    if (hqq_ && scheme_.integer_zero)
      hqq_integer_zeros(work.values, work.tile.length, work.range, scheme_, options_.hqq_iterations,
                        work.parameters);
  }

  // The scales must be as stored.
  void choose_zeros(TileWork& work) const {
    if (hqq_ && scheme_.integer_zero) return;  // chosen with the scales, which are stored as they are
    const bool half = scheme_.scales == ScaleStorage::Half;
    for (int64_t i = 0; i < kTileGroups; ++i) {
      const float zero =
          rtn_zero(scheme_, work.range.lowest[i], work.range.highest[i], work.parameters.scales[i]);
      work.parameters.zeros[i] = half ? stored_half_zero(zero) : zero;
    }
    if (hqq_ && !scheme_.symmetric)
      hqq_zeros(work.values, work.tile.length, work.range, scheme_, options_.hqq_iterations, work.parameters);
  }

  void decide_half(TileWork& work) const {
    choose_scales(work);
    for (float& scale : work.parameters.scales) scale = stored_half_scale(scale, max_code_);
    choose_zeros(work);
  }

  void decide_second_level() {
    const auto count = static_cast<size_t>(group_count(scheme_, weights_.rows, weights_.cols));
    groups_.scales.resize(count);
    groups_.zeros.resize(count);
    for_each_tile([&](int64_t, TileWork& work) {
      choose_scales(work);
      remember(work, work.parameters.scales, groups_.scales);
    });
    store_scales_in_8_bits(groups_.scales, max_code_, second_level_);
    for_each_tile([&](int64_t, TileWork& work) {
      recall(groups_, work);
      choose_zeros(work);
      remember(work, work.parameters.zeros, groups_.zeros);
    });
    if (!scheme_.symmetric) store_zeros_in_8_bits(groups_.zeros, second_level_);
  }

  MatrixView<const float> weights_;
  AffineScheme scheme_;
  const QuantizerOptions& options_;
  AffineTiles tiles_;
  int max_code_;
  bool hqq_;
  GroupParameters groups_;
  SecondLevelCodes second_level_;
};

void dequantize_scattered_groups(const AffineMatrix& matrix, float* weights) {
  const int64_t groups = static_cast<int64_t>(matrix.scales.size()) / std::max<int64_t>(1, matrix.rows);
  parallel_for(matrix.rows, kTilesPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < matrix.cols; ++c) {
        const int64_t at = r * matrix.cols + c, group = r * groups + matrix.group_of_column[c];
        weights[at] = (static_cast<float>(matrix.codes[at]) - matrix.zeros[group]) * matrix.scales[group];
      }
    }
  });
}

}  // namespace

double round_affine(MatrixView<const float> weights, const AffineScheme& scheme,
                    const QuantizerOptions& options, float* rounded) {
  AffineQuantizer quantizer(weights, scheme, options);
  std::vector<double> squared_errors(static_cast<size_t>(quantizer.task_count()));
  quantizer.for_each_decided([&](int64_t task, TileWork& work) {
    squared_errors[task] += round_tile(work.values, work.tile.length, work.parameters, quantizer.max_code());
    if (rounded) scatter_tile(work.tile, work.values, rounded);
  });
  return std::accumulate(squared_errors.begin(), squared_errors.end(), 0.0);
}

AffineMatrix quantize_affine(MatrixView<const float> weights, const AffineScheme& scheme,
                             const QuantizerOptions& options) {
  AffineMatrix matrix;
  matrix.scheme = scheme;
  matrix.rows = weights.rows;
  matrix.cols = weights.cols;
  matrix.codes.resize(static_cast<size_t>(weights.size()));
  matrix.scales.resize(static_cast<size_t>(group_count(scheme, weights.rows, weights.cols)));
  matrix.zeros.resize(matrix.scales.size());
  AffineQuantizer quantizer(weights, scheme, options);
  quantizer.for_each_decided([&](int64_t, TileWork& work) {
    std::vector<uint8_t> tile_codes(static_cast<size_t>(work.tile.length * kTileGroups));
    encode_tile(work.values, work.tile.length, work.parameters, quantizer.max_code(), tile_codes.data());
    scatter_codes(work.tile, tile_codes.data(), matrix.codes.data());
    remember(work, work.parameters.scales, matrix.scales);
    remember(work, work.parameters.zeros, matrix.zeros);
  });
  matrix.second_level = std::move(quantizer.second_level());
  return matrix;
}

void AffineMatrix::dequantize(float* weights) const {
  if (!group_of_column.empty()) return dequantize_scattered_groups(*this, weights);
  const AffineTiles tiles(scheme, rows, cols);
  parallel_for(tiles.count(), kTilesPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const AffineTile tile = tiles[index];
      for (int64_t i = 0; i < tile.groups; ++i) {
        const int64_t group = tile.first_group + i * tile.group_number_step;
        for (int64_t k = 0; k < tile.length; ++k) {
          const int64_t at = tile.first_weight + i * tile.group_step + k * tile.weight_step;
          weights[at] = (static_cast<float>(codes[at]) - zeros[group]) * scales[group];
        }
      }
    }
  });
}

}  // namespace strata
