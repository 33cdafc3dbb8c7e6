#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace strata {

inline constexpr int kMostNeighbours = 16;

// Standardised samples with ties broken by seeded noise; empty when all of them are equal. Throws Error when
// there are too few for the estimators, or one of them is not finite.
std::vector<float> standardised(const float* values, int64_t n, int neighbours, uint64_t seed);

// Values of an ascending list whose distance from `value`, one of them, is below `radius`; that one counts.
// Distances are differences in float, as those are that the radius comes from.
size_t count_within(const std::vector<float>& sorted, float value, float radius);

// psi(1) .. psi(n): the digamma function of whole numbers; entry 0 is unused.
std::vector<double> digamma_table(int64_t n);

}  // namespace strata
