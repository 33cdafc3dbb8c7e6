#pragma once

#include <cstdint>
#include <vector>

#include "strata/quantization/quantizer.h"

namespace strata {

// The nearest fp16 value of a scale. The next larger one where the nearest would clip more than half a code
// at each end of the group, which happens in fp16's subnormal range. Magnitudes above fp16's largest become
// it.
float stored_half_scale(float scale, int max_code);

// The nearest fp16 value, at most fp16's largest.
float stored_half_zero(float zero);

// Stores non-negative scales in 8 bits, with the same rule for those rounded down, and replaces them by what
// is stored.
void store_scales_in_8_bits(std::vector<float>& scales, int max_code, SecondLevelCodes& stored);

// Stores zero points in 8 bits with one range and replaces them by what is stored.
void store_zeros_in_8_bits(std::vector<float>& zeros, SecondLevelCodes& stored);

}  // namespace strata
