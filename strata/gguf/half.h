#pragma once

#include <algorithm>
#include <cmath>

#include "strata/core/dtype.h"

namespace strata {

// The fp16 number nearest to a scale or minimum, as a float, kept finite.
inline float stored_half(float value) {
  constexpr float largest = 65504.0f;
  return half_to_float(float_to_half(std::clamp(value, -largest, largest)));
}

// The same for the scale of integer scales, which can make up for its coarseness near zero: not zero unless
// the value is.
inline float stored_scale(float value) {
  constexpr float smallest = 0x1.0p-24f;
  if (value == 0) return 0;
  return std::copysign(stored_half(std::max(std::fabs(value), smallest)), value);
}

}  // namespace strata
