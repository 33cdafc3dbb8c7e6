#include "strata/quantization/affine_storage.h"

#include <algorithm>
#include <cmath>

#include "strata/core/dtype.h"

namespace strata {
namespace {

constexpr float kLargestHalf = 65504;
constexpr float kCodes = 255;  // steps of an 8-bit code

// Rounding a scale down moves both ends of a group outwards, half of this many codes each.
bool clips_more_than_a_code(float scale, float stored, int max_code) {
  return (scale - stored) * static_cast<float>(max_code) > stored;
}

uint16_t half_at_least(float value) {
  uint16_t bits = float_to_half(std::clamp(value, 0.0f, kLargestHalf));
  if (half_to_float(bits) < value && bits < 0x7bff) ++bits;  // positive halves are ordered like their bits
  return bits;
}

// The fp16 minimum and step of 8-bit codes that reach every value of a range.
struct Range8 {
  uint16_t minimum_bits = 0, step_bits = 0;
  float minimum = 0, step = 0;

  Range8(float lowest, float highest) {
    minimum_bits = float_to_half(std::clamp(lowest, -kLargestHalf, kLargestHalf));
    minimum = half_to_float(minimum_bits);
    step_bits = half_at_least(std::max(0.0f, highest - minimum) / kCodes);
    step = half_to_float(step_bits);
  }

  float nearest_code(float value) const {
    return step > 0 ? std::clamp(std::nearbyint((value - minimum) / step), 0.0f, kCodes) : 0;
  }
  float decode(float code) const {
    const float above_minimum = step * code;
    return minimum + above_minimum;
  }
};

}  // namespace

float stored_half_scale(float scale, int max_code) {
  const float magnitude = std::min(std::abs(scale), kLargestHalf);
  float stored = half_to_float(float_to_half(magnitude));
  if (clips_more_than_a_code(magnitude, stored, max_code)) stored = half_to_float(half_at_least(magnitude));
  return std::copysign(stored, scale);
}

float stored_half_zero(float zero) {
  return half_to_float(float_to_half(std::clamp(zero, -kLargestHalf, kLargestHalf)));
}

void store_scales_in_8_bits(std::vector<float>& scales, int max_code, SecondLevelCodes& stored) {
  stored.scale_codes.resize(scales.size());
  for (size_t begin = 0; begin < scales.size(); begin += kScalesPerRange) {
    const size_t end = std::min(scales.size(), begin + kScalesPerRange);
    const auto [lowest, highest] = std::minmax_element(scales.begin() + begin, scales.begin() + end);
    const Range8 range(*lowest, *highest);
    stored.scale_minimums.push_back(range.minimum_bits);
    stored.scale_steps.push_back(range.step_bits);
    for (size_t i = begin; i < end; ++i) {
      float code = range.nearest_code(scales[i]);
      if (code < kCodes && clips_more_than_a_code(scales[i], range.decode(code), max_code)) ++code;
      stored.scale_codes[i] = static_cast<uint8_t>(code);
      scales[i] = range.decode(code);
    }
  }
}

void store_zeros_in_8_bits(std::vector<float>& zeros, SecondLevelCodes& stored) {
  if (zeros.empty()) return;
  const auto [lowest, highest] = std::minmax_element(zeros.begin(), zeros.end());
  const Range8 range(*lowest, *highest);
  stored.zero_minimum = range.minimum_bits;
  stored.zero_step = range.step_bits;
  stored.zero_codes.resize(zeros.size());
  for (size_t i = 0; i < zeros.size(); ++i) {
    const float code = range.nearest_code(zeros[i]);
    stored.zero_codes[i] = static_cast<uint8_t>(code);
    zeros[i] = range.decode(code);
  }
}

}  // namespace strata
