#include "strata/quantization/rtn.h"

#include <algorithm>
#include <cmath>

namespace strata {
namespace {

// fp16 zero points beyond this would be off by a quarter of a code and more.
constexpr float kFarthestZero = 1024;
constexpr float kSmallestNormalHalf = 0x1.0p-14f;

// All zero points of a second level share one range, which a single far one would spoil; integer ones are
// codes.
bool zero_among_codes(const AffineScheme& scheme) {
  return scheme.integer_zero || scheme.scales == ScaleStorage::SecondLevel;
}

float asymmetric_scale(const AffineScheme& scheme, float lowest, float highest) {
  const auto top = static_cast<float>((1 << scheme.bits) - 1);
  if (zero_among_codes(scheme)) {
    lowest = std::min(lowest, 0.0f);
    highest = std::max(highest, 0.0f);
  }
  const float scale = highest / top - lowest / top;  // the range itself may overflow
  const float farthest = std::max(std::abs(lowest), std::abs(highest));
  if (scale >= farthest / kFarthestZero) return scale;
  // A group that is narrow for its distance from zero, such as a constant one, gets a coarser scale that fp16
  // holds in full precision; its weights are then as exact as fp16 weights.
  return std::max(farthest / kFarthestZero, std::min(farthest, kSmallestNormalHalf));
}

float symmetric_scale(const AffineScheme& scheme, float lowest, float highest) {
  const auto below = static_cast<float>(1 << (scheme.bits - 1)), above = below - 1;  // codes on each side
  const float positive = std::max({-lowest / below, highest / above, 0.0f});
  // 8-bit scales share a range that two signs would only widen.
  if (scheme.scales == ScaleStorage::SecondLevel) return positive;
  const float negative = std::max({highest / below, -lowest / above, 0.0f});
  return negative < positive ? -negative : positive;
}

}  // namespace

float rtn_scale(const AffineScheme& scheme, float lowest, float highest) {
  return scheme.symmetric ? symmetric_scale(scheme, lowest, highest)
                          : asymmetric_scale(scheme, lowest, highest);
}

float rtn_zero(const AffineScheme& scheme, float lowest, float highest, float stored_scale) {
  if (scheme.symmetric) return static_cast<float>(1 << (scheme.bits - 1));
  if (stored_scale == 0) return 0;
  if (zero_among_codes(scheme)) {
    lowest = std::min(lowest, 0.0f);
    highest = std::max(highest, 0.0f);
  }
  const auto top = static_cast<float>((1 << scheme.bits) - 1);
  if (scheme.integer_zero)
    return std::clamp(std::nearbyint(top / 2 - (lowest / 2 + highest / 2) / stored_scale), 0.0f, top);
  if (highest / top - lowest / top <= stored_scale) return -lowest / stored_scale;
  return top / 2 - (lowest / 2 + highest / 2) / stored_scale;  // both ends are clipped alike
}

}  // namespace strata
