#include "strata/quantization/gguf_feedback.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/quantization/affine_tile.h"
#include "strata/quantization/gguf_codec.h"
#include "strata/quantization/gguf_encoders.h"
#include "strata/quantization/gguf_levels.h"

namespace strata {
namespace {

constexpr int64_t kBlock = 256;  // a multiple of every type's block
constexpr int64_t kSpan = 16;    // neighbouring weights that share their levels
constexpr int64_t kTilesPerTask = 4;

// Types without blocks: their rounding errors are too small to feed back.
class FloatRounder : public ColumnRounder {
 public:
  explicit FloatRounder(QuantizedMatrix matrix) : matrix_(std::move(matrix)) {}
  int64_t block_size() const override { return kBlock; }
  void round(const FeedbackBlock& block) override {
    std::fill_n(block.errors, matrix_.rows * block.count, 0.0f);
  }
  QuantizedMatrix finish() override { return std::move(matrix_); }

 private:
  QuantizedMatrix matrix_;
};

class GgufRounder : public ColumnRounder {
 public:
  // `matrix` holds the blocks that the encoders make of the weights as given.
  GgufRounder(QuantizedMatrix matrix, GgufType type, const FeedbackOptions& options)
      : matrix_(std::move(matrix)),
        options_(options),
        columns_(options.order),
        type_(type),
        block_elements_(traits_of(type).block_elements),
        block_bytes_(traits_of(type).block_bytes),
        as_reached_(options.scales == GroupScales::AsReached),
        codes_(static_cast<size_t>(matrix_.rows * matrix_.cols)),
        scales_(static_cast<size_t>(matrix_.rows * spans_per_row())),
        mins_(scales_.size()) {
    if (columns_.empty())
      for (int64_t c = 0; c < matrix_.cols; ++c) columns_.push_back(c);
    if (as_reached_) return;
    for (int64_t row = 0; row < matrix_.rows; ++row)
      for (int64_t first = 0; first < matrix_.cols; first += block_elements_) remember_levels(row, first);
  }

  int64_t block_size() const override { return kBlock; }

  void round(const FeedbackBlock& block) override {
    if (as_reached_) arrange_column_weights(block);
    const int64_t tiles = (matrix_.rows + kTileGroups - 1) / kTileGroups;
    parallel_for(tiles, kTilesPerTask, [&](int64_t begin, int64_t end) {
      std::vector<float> values(static_cast<size_t>(block.count * kTileGroups));
      for (int64_t t = begin; t < end; ++t) {
        const int64_t row = t * kTileGroups;
        round_rows(block, row, std::min(kTileGroups, matrix_.rows - row), values);
      }
    });
  }

  QuantizedMatrix finish() override {
    parallel_for(matrix_.rows, kTileGroups, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t first = 0; first < matrix_.cols; first += block_elements_)
          write_codes(type_, codes_.data() + row * matrix_.cols + first, block_at(row, first));
    });
    return std::move(matrix_);
  }

 private:
  int64_t spans_per_row() const { return (matrix_.cols + kSpan - 1) / kSpan; }

  std::byte* block_at(int64_t row, int64_t column) {
    const int64_t blocks_per_row = matrix_.cols / block_elements_;
    return matrix_.blocks.data() + (row * blocks_per_row + column / block_elements_) * block_bytes_;
  }

  void remember_levels(int64_t row, int64_t first) {
    BlockLevels levels;
    read_levels(type_, block_at(row, first), levels);
    const int64_t at = row * spans_per_row() + first / kSpan;
    std::copy_n(levels.scale, block_elements_ / kSpan, scales_.data() + at);
    std::copy_n(levels.min, block_elements_ / kSpan, mins_.data() + at);
  }

  // For each block among these columns the weights of its columns, as many times as there are rows in a tile.
  void arrange_column_weights(const FeedbackBlock& block) {
    arranged_.clear();
    for (int64_t k = 0; k < block.count; k += block_elements_) {
      const float* first = options_.column_weights.data() + block.first + k;
      std::vector<float> repeated;
      for (int64_t i = 0; i < kTileGroups; ++i)
        repeated.insert(repeated.end(), first, first + block_elements_);
      arranged_.push_back(arrange_importance(type_, repeated.data(), static_cast<int64_t>(repeated.size())));
    }
  }

  void round_rows(const FeedbackBlock& block, int64_t first_row, int64_t rows, std::vector<float>& values) {
    std::fill(values.begin(), values.end(), 0.0f);
    for (int64_t i = 0; i < rows; ++i) {
      const float* row = block.weights + (first_row + i) * block.count;
      for (int64_t k = 0; k < block.count; ++k) values[static_cast<size_t>(k * kTileGroups + i)] = row[k];
    }
    for (int64_t k = 0; k < block.count; ++k) {
      if (as_reached_ && k % block_elements_ == 0)
        reach_block(block, k, first_row, rows, values.data() + k * kTileGroups);
      round_column(block, k, first_row, rows, values.data() + k * kTileGroups);
    }
  }

  // The encoders work on eight blocks at a time, so the blocks of all rows go through as one long row.
  void reach_block(const FeedbackBlock& block, int64_t k, int64_t first_row, int64_t rows,
                   const float* values) {
    std::vector<float> weights(static_cast<size_t>(kTileGroups * block_elements_));
    for (int64_t i = 0; i < kTileGroups; ++i) {
      for (int64_t j = 0; j < block_elements_; ++j) {
        const float w = values[j * kTileGroups + i];
        if (!std::isfinite(w)) fail("error feedback gave a weight that is not finite; use more damping");
        weights[static_cast<size_t>(i * block_elements_ + j)] = w;
      }
    }
    std::vector<std::byte> blocks(static_cast<size_t>(kTileGroups * block_bytes_));
    const std::vector<float>& arranged = arranged_[static_cast<size_t>(k / block_elements_)];
    encode_row(type_, weights.data(), kTileGroups * block_elements_, arranged.data(), blocks.data());
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(blocks.data() + i * block_bytes_, block_bytes_, block_at(first_row + i, block.first + k));
      remember_levels(first_row + i, block.first + k);
    }
  }

  void round_column(const FeedbackBlock& block, int64_t k, int64_t first_row, int64_t rows, float* values) {
    const int64_t column = columns_[static_cast<size_t>(block.first + k)];
    const float inverse = 1 / block.factor[k * block.count + k];
    float errors[kTileGroups] = {};
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = first_row + i, span = row * spans_per_row() + column / kSpan;
      const float scale = scales_[static_cast<size_t>(span)], min = mins_[static_cast<size_t>(span)];
      const uint8_t code = nearest_code(type_, values[i], scale, min);
      errors[i] = (values[i] - value_of_code(type_, code, scale, min)) * inverse;
      codes_[static_cast<size_t>(row * matrix_.cols + column)] = code;
      block.errors[row * block.count + k] = errors[i];
    }
    spread_errors(errors, block.factor + k * block.count + k + 1, block.count - k - 1, values + kTileGroups);
  }

  QuantizedMatrix matrix_;
  FeedbackOptions options_;
  std::vector<int64_t> columns_;  // in the order of quantization
  GgufType type_;
  int64_t block_elements_, block_bytes_;
  bool as_reached_;
  std::vector<uint8_t> codes_;        // [rows, cols]
  std::vector<float> scales_, mins_;  // [rows, spans]
  std::vector<std::vector<float>> arranged_;
};

}  // namespace

std::unique_ptr<ColumnRounder> make_gguf_rounder(MatrixView<const float> weights, const Scheme& scheme,
                                                 const FeedbackOptions& options) {
  if (!options.order.empty() && options.scales == GroupScales::AsReached)
    fail_usage(
        "{} cannot store groups of columns in the order of their activations; use static scales "
        "(--act-order static)",
        scheme.name());
  QuantizerOptions encoding;
  encoding.importance = options.column_weights.data();
  QuantizedMatrix matrix = quantize_matrix(weights, scheme, encoding);
  const GgufType type = stored_type(scheme.gguf, weights.cols);
  if (traits_of(type).block_elements == 1) return std::make_unique<FloatRounder>(std::move(matrix));
  return std::make_unique<GgufRounder>(std::move(matrix), type, options);
}

}  // namespace strata
