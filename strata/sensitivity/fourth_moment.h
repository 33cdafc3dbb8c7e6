#pragma once

#include <cstdint>

namespace strata {

// Sum over all d*d entries x of left' right of (scale x - mean)^4. `left` and `right` are [r, d] row-major.
// The entries are formed and consumed in vector registers (chosen by the CPU at run time) and never stored.
// Runs on the calling thread.
double sum_of_fourth_powers(const float* left, const float* right, int64_t r, int64_t d, double scale,
                            double mean);

}  // namespace strata
