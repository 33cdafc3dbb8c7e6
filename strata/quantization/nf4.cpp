#include "strata/quantization/nf4.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

constexpr int64_t kBlocksPerTask = 1024;

template <class Levels>
uint8_t nearest(const Levels& levels, float x) {
  const auto above = std::lower_bound(levels.begin(), levels.end(), x);
  if (above == levels.begin()) return 0;
  if (above == levels.end()) return static_cast<uint8_t>(levels.size() - 1);
  const bool below = x - above[-1] <= *above - x;
  return static_cast<uint8_t>(above - levels.begin() - (below ? 1 : 0));
}

float largest_magnitude(const float* first, const float* last) {
  float largest = 0;
  for (; first != last; ++first) largest = std::max(largest, std::abs(*first));
  return largest;
}

// Replaces the magnitudes by what double quantization leaves of them.
void quantize_magnitudes(Nf4Matrix& matrix) {
  std::vector<float>& values = matrix.magnitudes;
  double sum = 0;
  for (const float value : values) sum += value;
  matrix.mean = values.empty() ? 0 : static_cast<float>(sum / static_cast<double>(values.size()));
  for (float& value : values) value -= matrix.mean;
  matrix.nested_codes.resize(values.size());
  for (size_t begin = 0; begin < values.size(); begin += kNf4NestedBlock) {
    const size_t end = std::min(values.size(), begin + kNf4NestedBlock);
    const float magnitude = largest_magnitude(values.data() + begin, values.data() + end);
    matrix.nested_magnitudes.push_back(magnitude);
    for (size_t i = begin; i < end; ++i) {
      const uint8_t code = nearest(dynamic_levels(), magnitude > 0 ? values[i] / magnitude : 0);
      matrix.nested_codes[i] = code;
      values[i] = dynamic_levels()[code] * magnitude + matrix.mean;
    }
  }
}

}  // namespace

const std::array<float, 16>& nf4_levels() {
  static const std::array<float, 16> levels = {-1.0f,        -0.69619280f, -0.52507305f,  -0.39491749f,
                                               -0.28444138f, -0.18477343f, -0.091050036f, 0.0f,
                                               0.079580300f, 0.16093020f,  0.24611230f,   0.33791524f,
                                               0.44070983f,  0.56261700f,  0.72295684f,   1.0f};
  return levels;
}

const std::array<float, 256>& dynamic_levels() {
  // For each power of ten 10^-6 .. 1, the middles of 2^i equal parts of [0.1, 1], with both signs; 0 and 1.
  static const std::array<float, 256> levels = [] {
    std::vector<float> values = {0, 1};
    for (int i = 0; i < 7; ++i) {
      const int parts = 1 << i;
      for (int k = 0; k < parts; ++k) {
        const double middle = 0.1 + 0.9 * (k + 0.5) / parts;
        const auto level = static_cast<float>(std::pow(10.0, i - 6) * middle);
        values.push_back(level);
        values.push_back(-level);
      }
    }
    std::sort(values.begin(), values.end());
    std::array<float, 256> sorted{};
    std::copy(values.begin(), values.end(), sorted.begin());
    return sorted;
  }();
  return levels;
}

void Nf4Matrix::dequantize(float* weights) const {
  const std::array<float, 16>& levels = nf4_levels();
  parallel_for(rows * cols, kBlocksPerTask * kNf4Block, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const uint8_t pair = codes[static_cast<size_t>(i / 2)];
      const uint8_t code = i % 2 == 0 ? pair >> 4 : pair & 15;
      weights[i] = levels[code] * magnitudes[static_cast<size_t>(i / kNf4Block)];
    }
  });
}

Nf4Matrix quantize_nf4(MatrixView<const float> weights, bool double_quantized) {
  const int64_t count = weights.size(), blocks = (count + kNf4Block - 1) / kNf4Block;
  for (int64_t i = 0; i < count; ++i)
    if (!std::isfinite(weights.data[i]))
      fail("the weight in row {}, column {} is {}; a finite number was expected", i / weights.cols,
           i % weights.cols, weights.data[i]);
  Nf4Matrix matrix;
  matrix.rows = weights.rows;
  matrix.cols = weights.cols;
  matrix.codes.resize(static_cast<size_t>((count + 1) / 2));
  matrix.magnitudes.resize(static_cast<size_t>(blocks));
  // Codes are taken with the exact magnitude, before double quantization.
  parallel_for(blocks, kBlocksPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * kNf4Block, last = std::min(count, first + kNf4Block);
      const float magnitude = largest_magnitude(weights.data + first, weights.data + last);
      matrix.magnitudes[static_cast<size_t>(b)] = magnitude;
      for (int64_t i = first; i < last; ++i) {
        const uint8_t code = nearest(nf4_levels(), magnitude > 0 ? weights.data[i] / magnitude : 0);
        matrix.codes[static_cast<size_t>(i / 2)] |= static_cast<uint8_t>(i % 2 == 0 ? code << 4 : code);
      }
    }
  });
  if (double_quantized) quantize_magnitudes(matrix);
  return matrix;
}

uint64_t nf4_stored_bits(uint64_t weights, bool double_quantized) {
  const uint64_t codes = 8 * ((weights + 1) / 2), blocks = (weights + kNf4Block - 1) / kNf4Block;
  if (!double_quantized) return codes + 32 * blocks;
  return codes + 8 * blocks + 32 * ((blocks + kNf4NestedBlock - 1) / kNf4NestedBlock) + 32;
}

}  // namespace strata
