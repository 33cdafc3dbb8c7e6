#pragma once

namespace strata::vision {

// Rounds to the nearest whole number, halves to even, below 2^22; compiles to two additions.
inline float nearest(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

}  // namespace strata::vision
