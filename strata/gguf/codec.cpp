#include "strata/gguf/codec.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/gguf/block_codec.h"

namespace strata {
namespace {

constexpr int64_t weights_a_chunk = 1 << 16;

float usable(float importance) {
  return importance > 0 ? std::min(importance, 1e30f) : 0.0f;
}

// Where the importance of column i stands: weights of eight sub-blocks lie side by side, so that those of one
// lie eight apart.
int64_t place_in_lanes(int64_t i, int sub_block) {
  const int64_t group = i / (8 * sub_block) * (8 * sub_block);
  return group + 8 * (i % sub_block) + (i - group) / sub_block;
}

}  // namespace

std::vector<float> arrange_importance(GgufType type, const float* importance, int64_t cols) {
  const GgufCodec& codec = codec_of(type);
  if (!importance || codec.block_elements == 1) return {};
  const int normalised = codec.block_elements;
  std::vector<float> arranged(static_cast<size_t>((cols + 255) / 256 * 256), 1.0f);
  for (int64_t block = 0; block < cols; block += normalised) {
    double total = 0;
    for (int64_t i = block; i < block + normalised; ++i) total += usable(importance[i]);
    const double scale = total > 0 ? normalised / total : 0;
    for (int64_t i = block; i < block + normalised; ++i) {
      // The small constant decides among codes that the importance leaves open.
      const double weight = usable(importance[i]) * scale + 1e-6;
      const int64_t place = codec.lane_weights > 0 ? place_in_lanes(i, codec.lane_weights) : i;
      arranged[static_cast<size_t>(place)] = static_cast<float>(weight);
    }
  }
  return arranged;
}

void encode_row(GgufType type, const float* weights, int64_t cols, const float* arranged_importance,
                std::byte* blocks) {
  codec_of(type).encode(weights, cols, arranged_importance, blocks);
}

void encode_gguf(GgufType type, const float* weights, int64_t rows, int64_t cols, const float* importance,
                 std::byte* blocks) {
  const int64_t bytes = row_bytes(type, cols);
  const GgufCodec& codec = codec_of(type);
  if (rows <= 0 || cols <= 0) return;
  const int64_t grain = std::max<int64_t>(1, weights_a_chunk / cols);
  const std::vector<float> arranged = arrange_importance(type, importance, cols);
  const float* row_importance = arranged.empty() ? nullptr : arranged.data();
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      codec.encode(weights + row * cols, cols, row_importance, blocks + row * bytes);
  });
}

bool is_finite_gguf(GgufType type, const std::byte* blocks, int64_t n) {
  row_bytes(type, n);
  return codec_of(type).finite(blocks, n);
}

void decode_gguf(GgufType type, const std::byte* blocks, int64_t n, float* weights) {
  row_bytes(type, n);  // throws for an n that the block size does not divide
  const GgufCodec& codec = codec_of(type);
  parallel_for(n, weights_a_chunk, [&](int64_t begin, int64_t end) {
    codec.decode(blocks + begin / codec.block_elements * codec.block_bytes, end - begin, weights + begin);
  });
}

}  // namespace strata
