#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace strata {

// A GGUF block as scales, which are decided for all of it, and codes, one a weight: the value of a code is
// scale * level(code) - min.

// The scales and mins of a block; entry i is for its weights 16 i to 16 i + 15.
struct BlockLevels {
  float scale[16], min[16];
};

// The levels of the codes 0 to `largest`: code - zero, or, in types that have values of their own, these.
struct CodeLevels {
  int zero, largest;
  const std::array<int8_t, 16>* values = nullptr;  // ascending
};

// Of IQ4_NL and IQ4_XS.
inline constexpr std::array<int8_t, 16> iq4_nl_values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                         1,    13,   25,  38,  53,  69,  89,  113};

inline int level_of_code(const CodeLevels& levels, uint8_t code) {
  if (levels.values) return (*levels.values)[code];
  // Codes of 8 bits go round: Q8_0's byte -128, which our encoder does not write but others may, is code 255.
  return levels.largest > 127 ? static_cast<int8_t>(code - levels.zero) : code - levels.zero;
}

// The value of a code, exactly as decode_gguf gives it.
inline float value_of_code(const CodeLevels& levels, uint8_t code, float scale, float min) {
  return scale * static_cast<float>(level_of_code(levels, code)) - min;
}

// The code whose value is nearest to x.
inline uint8_t nearest_code(const CodeLevels& levels, float x, float scale, float min) {
  if (scale == 0) return static_cast<uint8_t>(levels.zero);
  const float level = (x + min) / scale;
  if (!levels.values) {
    const float code = std::nearbyint(level) + static_cast<float>(levels.zero);
    return static_cast<uint8_t>(std::clamp(code, 0.0f, static_cast<float>(levels.largest)));
  }
  const auto& values = *levels.values;
  const auto above = std::lower_bound(values.begin(), values.end(), level);
  if (above == values.begin()) return 0;
  if (above == values.end()) return static_cast<uint8_t>(levels.largest);
  const bool below = level - static_cast<float>(above[-1]) < static_cast<float>(*above) - level;
  return static_cast<uint8_t>(above - values.begin() - (below ? 1 : 0));
}

}  // namespace strata
