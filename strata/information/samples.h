#pragma once

#include <cstdint>
#include <vector>

namespace strata {

inline constexpr int kMostNeighbours = 16;

// Standardised samples with ties broken by seeded noise; empty when all of them are equal. Throws Error when
// there are too few for the estimators, or one of them is not finite.
std::vector<float> standardised(const float* values, int64_t n, int neighbours, uint64_t seed);

// psi(1) .. psi(n): the digamma function of whole numbers; entry 0 is unused.
std::vector<double> digamma_table(int64_t n);

}  // namespace strata
