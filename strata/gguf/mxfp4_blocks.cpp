#include "strata/gguf/mxfp4_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "strata/gguf/blocks_of_32.h"

namespace strata {
namespace {

constexpr int kElements = 32, kBias = 127;
constexpr std::array<float, 8> kMagnitudes = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
constexpr int kLargest = 2;         // the exponent of 6, and of 4
constexpr int kMostExponent = 252;  // 6 times the scale is a number

float scale_of(uint8_t exponent) {
  return std::ldexp(1.0f, exponent - kBias);
}

float value_of(uint8_t code, float scale) {
  const float magnitude = scale * kMagnitudes[code & 7];
  return (code & 8) != 0 ? -magnitude : magnitude;
}

uint8_t nearest_to(float x, float scale) {
  const float magnitude = std::abs(x) / scale;
  uint8_t code = 0;
  while (code < 7 && magnitude > (kMagnitudes[code] + kMagnitudes[code + 1]) / 2) ++code;
  return x < 0 && code > 0 ? code | 8 : code;
}

// Tries the powers of two that take the largest weight to between 2 and 4, 4 and 8, or 8 and 16, which is
// clipped.
BlockMXFP4 encoded(const float* x, const float* importance) {
  float largest = 0;
  for (int k = 0; k < kElements; ++k) largest = std::max(largest, std::abs(x[k]));
  BlockMXFP4 best = {};
  if (largest == 0) return best;
  largest = std::min(largest, std::numeric_limits<float>::max());
  const int usual = std::ilogb(largest) - kLargest + kBias;
  double least = -1;
  for (const int exponent : {usual, usual + 1, usual - 1}) {
    const auto stored = static_cast<uint8_t>(std::clamp(exponent, 0, kMostExponent));
    const float scale = scale_of(stored);
    uint8_t codes[kElements];
    double error = 0;
    for (int k = 0; k < kElements; ++k) {
      codes[k] = nearest_to(x[k], scale);
      const double difference = static_cast<double>(x[k]) - value_of(codes[k], scale);
      error += difference * difference * (importance == nullptr ? 1.0 : importance[k]);
    }
    if (least >= 0 && error >= least) continue;
    least = error;
    best.exponent = stored;
    pack_nibbles(codes, best.codes);
  }
  return best;
}

}  // namespace

void decode_mxfp4(const std::byte* bytes, int64_t n, float* weights) {
  for (int64_t i = 0; i < n; i += kElements, bytes += sizeof(BlockMXFP4)) {
    BlockMXFP4 block;
    std::memcpy(&block, bytes, sizeof(block));
    uint8_t codes[kElements];
    unpack_nibbles(block.codes, codes);
    const float scale = scale_of(block.exponent);
    for (int k = 0; k < kElements; ++k) weights[i + k] = value_of(codes[k], scale);
  }
}

void encode_mxfp4(const float* weights, int64_t cols, const float* importance, std::byte* blocks) {
  for (int64_t i = 0; i < cols; i += kElements, blocks += sizeof(BlockMXFP4)) {
    const BlockMXFP4 block = encoded(weights + i, importance == nullptr ? nullptr : importance + i);
    std::memcpy(blocks, &block, sizeof(block));
  }
}

// Greater exponents than encoders give, 255 among them, which stands for no number, may take codes beyond
// what float holds.
bool finite_mxfp4(const std::byte* bytes, int64_t n) {
  for (int64_t i = 0; i < n; i += kElements, bytes += sizeof(BlockMXFP4)) {
    BlockMXFP4 block;
    std::memcpy(&block, bytes, sizeof(block));
    if (block.exponent <= kMostExponent) continue;
    std::array<float, kElements> weights;
    decode_mxfp4(bytes, kElements, weights.data());
    if (!std::all_of(weights.begin(), weights.end(), [](float weight) { return std::isfinite(weight); }))
      return false;
  }
  return true;
}

}  // namespace strata
