#include "strata/quantization/gguf_feedback.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/gguf/block_codec.h"
#include "strata/gguf/codec.h"
#include "strata/quantization/affine_tile.h"

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

// Encodes the blocks of kTileGroups rows that begin in one column.
class TileEncoder {
 public:
  TileEncoder(GgufType type, std::vector<float> column_weights)
      : type_(type), column_weights_(std::move(column_weights)), traits_(traits_of(type)) {}

  // To be called before the blocks among these columns are encoded: their weights, as many times as there are
  // rows.
  void arrange(int64_t first, int64_t count) {
    arranged_.clear();
    for (int64_t k = 0; k < count; k += traits_.block_elements) {
      const float* weights = column_weights_.data() + first + k;
      std::vector<float> repeated;
      for (int64_t i = 0; i < kTileGroups; ++i)
        repeated.insert(repeated.end(), weights, weights + traits_.block_elements);
      arranged_.push_back(arrange_importance(type_, repeated.data(), static_cast<int64_t>(repeated.size())));
    }
  }

  // The tile from column k of the arranged ones on: column j at values + 16 j. The encoders work on eight
  // blocks at a time, so the blocks of all rows go through as one long row.
  std::vector<std::byte> encode(int64_t k, const float* values) const {
    std::vector<float> weights(static_cast<size_t>(kTileGroups * traits_.block_elements));
    for (int64_t i = 0; i < kTileGroups; ++i) {
      for (int64_t j = 0; j < traits_.block_elements; ++j) {
        const float w = values[j * kTileGroups + i];
        if (!std::isfinite(w)) fail("error feedback gave a weight that is not finite; use more damping");
        weights[static_cast<size_t>(i * traits_.block_elements + j)] = w;
      }
    }
    std::vector<std::byte> blocks(static_cast<size_t>(kTileGroups * traits_.block_bytes));
    const std::vector<float>& arranged = arranged_[static_cast<size_t>(k / traits_.block_elements)];
    encode_row(type_, weights.data(), static_cast<int64_t>(weights.size()), arranged.data(), blocks.data());
    return blocks;
  }

 private:
  GgufType type_;
  std::vector<float> column_weights_;
  GgufTypeTraits traits_;
  std::vector<std::vector<float>> arranged_;
};

// Calls body(first row, rows, the tile: column k of them at values + 16 k) for all rows, on all threads.
template <class Body>
void for_tiles(const FeedbackBlock& block, int64_t rows, const Body& body) {
  const int64_t tiles = (rows + kTileGroups - 1) / kTileGroups;
  parallel_for(tiles, kTilesPerTask, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(block.count * kTileGroups));
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * kTileGroups, count = std::min(kTileGroups, rows - first);
      std::fill(values.begin(), values.end(), 0.0f);
      for (int64_t i = 0; i < count; ++i) {
        const float* row = block.weights + (first + i) * block.count;
        for (int64_t k = 0; k < block.count; ++k) values[static_cast<size_t>(k * kTileGroups + i)] = row[k];
      }
      body(first, count, values.data());
    }
  });
}

// Types without levels: a block is encoded whole, and the columns after it make up for the error e of all its
// columns together. The best change of these is -e U_BB^-1 U_BR, so that the errors to be handed on are e
// U_BB^-1.
class WholeBlockRounder : public ColumnRounder {
 public:
  WholeBlockRounder(int64_t rows, int64_t cols, const Scheme& scheme, GgufType type,
                    const FeedbackOptions& options)
      : type_(type), traits_(traits_of(type)), encoder_(type, options.column_weights) {
    matrix_.scheme = scheme;
    matrix_.rows = rows;
    matrix_.cols = cols;
    matrix_.blocks.resize(static_cast<size_t>(rows * cols / traits_.block_elements * traits_.block_bytes));
  }

  int64_t block_size() const override { return traits_.block_elements; }

  void round(const FeedbackBlock& block) override {
    encoder_.arrange(block.first, block.count);
    for_tiles(block, matrix_.rows, [&](int64_t first_row, int64_t rows, float* values) {
      const std::vector<std::byte> blocks = encoder_.encode(0, values);
      std::vector<float> decoded(static_cast<size_t>(kTileGroups * block.count));
      decode_gguf(type_, blocks.data(), static_cast<int64_t>(decoded.size()), decoded.data());
      for (int64_t i = 0; i < rows; ++i) {
        std::copy_n(blocks.data() + i * traits_.block_bytes, traits_.block_bytes,
                    block_at(first_row + i, block.first));
        for (int64_t k = 0; k < block.count; ++k)
          values[k * kTileGroups + i] -= decoded[static_cast<size_t>(i * block.count + k)];
      }
      solve(block, first_row, rows, values);
    });
  }

  QuantizedMatrix finish() override { return std::move(matrix_); }

 private:
  // Writes X with X U_BB = E for the errors E of a tile, column by column.
  static void solve(const FeedbackBlock& block, int64_t first_row, int64_t rows, float* values) {
    for (int64_t k = 0; k < block.count; ++k) {
      const float* factor = block.factor + k * block.count + k;
      float errors[kTileGroups] = {};
      for (int64_t i = 0; i < rows; ++i) {
        errors[i] = values[k * kTileGroups + i] / *factor;
        block.errors[(first_row + i) * block.count + k] = errors[i];
      }
      spread_errors(errors, factor + 1, block.count - k - 1, values + (k + 1) * kTileGroups);
    }
  }

  std::byte* block_at(int64_t row, int64_t column) {
    const int64_t index = (row * matrix_.cols + column) / traits_.block_elements;
    return matrix_.blocks.data() + index * traits_.block_bytes;
  }

  QuantizedMatrix matrix_;
  GgufType type_;
  GgufTypeTraits traits_;
  TileEncoder encoder_;
};

class GgufRounder : public ColumnRounder {
 public:
  // `matrix` holds the blocks that the encoders make of the weights as given.
  GgufRounder(QuantizedMatrix matrix, GgufType type, const FeedbackOptions& options)
      : matrix_(std::move(matrix)),
        options_(options),
        columns_(options.order),
        type_codes_(*codec_of(type).codes),
        block_elements_(traits_of(type).block_elements),
        block_bytes_(traits_of(type).block_bytes),
        as_reached_(options.scales == GroupScales::AsReached),
        encoder_(type, options.column_weights),
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
    if (as_reached_) encoder_.arrange(block.first, block.count);
    for_tiles(block, matrix_.rows, [&](int64_t first_row, int64_t rows, float* values) {
      for (int64_t k = 0; k < block.count; ++k, values += kTileGroups) {
        if (as_reached_ && k % block_elements_ == 0) reach_block(block.first + k, k, first_row, rows, values);
        round_column(block, k, first_row, rows, values);
      }
    });
  }

  QuantizedMatrix finish() override {
    parallel_for(matrix_.rows, kTileGroups, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t first = 0; first < matrix_.cols; first += block_elements_)
          type_codes_.write_codes(codes_.data() + row * matrix_.cols + first, block_at(row, first));
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
    type_codes_.read_levels(block_at(row, first), levels);
    const int64_t at = row * spans_per_row() + first / kSpan;
    std::copy_n(levels.scale, block_elements_ / kSpan, scales_.data() + at);
    std::copy_n(levels.min, block_elements_ / kSpan, mins_.data() + at);
  }

  void reach_block(int64_t column, int64_t k, int64_t first_row, int64_t rows, const float* values) {
    const std::vector<std::byte> blocks = encoder_.encode(k, values);
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(blocks.data() + i * block_bytes_, block_bytes_, block_at(first_row + i, column));
      remember_levels(first_row + i, column);
    }
  }

  void round_column(const FeedbackBlock& block, int64_t k, int64_t first_row, int64_t rows, float* values) {
    const CodeLevels& levels = type_codes_.levels;
    const int64_t column = columns_[static_cast<size_t>(block.first + k)];
    const float inverse = 1 / block.factor[k * block.count + k];
    float errors[kTileGroups] = {};
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = first_row + i, span = row * spans_per_row() + column / kSpan;
      const float scale = scales_[static_cast<size_t>(span)], min = mins_[static_cast<size_t>(span)];
      const uint8_t code = nearest_code(levels, values[i], scale, min);
      errors[i] = (values[i] - value_of_code(levels, code, scale, min)) * inverse;
      codes_[static_cast<size_t>(row * matrix_.cols + column)] = code;
      block.errors[row * block.count + k] = errors[i];
    }
    spread_errors(errors, block.factor + k * block.count + k + 1, block.count - k - 1, values + kTileGroups);
  }

  QuantizedMatrix matrix_;
  FeedbackOptions options_;
  std::vector<int64_t> columns_;  // in the order of quantization
  const GgufCodes& type_codes_;
  int64_t block_elements_, block_bytes_;
  bool as_reached_;
  TileEncoder encoder_;
  std::vector<uint8_t> codes_;        // [rows, cols]
  std::vector<float> scales_, mins_;  // [rows, spans]
};

}  // namespace

std::unique_ptr<ColumnRounder> make_gguf_rounder(MatrixView<const float> weights, const Scheme& scheme,
                                                 const FeedbackOptions& options) {
  if (!options.order.empty() && options.scales == GroupScales::AsReached)
    fail_usage(
        "{} cannot store groups of columns in the order of their activations; use static scales "
        "(--act-order static)",
        scheme.name());
  const GgufType type = stored_type(scheme.gguf, weights.cols);
  if (takes_whole_blocks(type)) {
    if (!options.order.empty())
      fail_usage("{} takes whole blocks of neighbouring columns; leave out --act-order", scheme.name());
    return std::make_unique<WholeBlockRounder>(weights.rows, weights.cols, scheme, type, options);
  }
  QuantizerOptions encoding;
  encoding.importance = options.column_weights.data();
  QuantizedMatrix matrix = quantize_matrix(weights, scheme, encoding);
  if (traits_of(type).block_elements == 1) return std::make_unique<FloatRounder>(std::move(matrix));
  return std::make_unique<GgufRounder>(std::move(matrix), type, options);
}

}  // namespace strata
