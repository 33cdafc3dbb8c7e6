#pragma once

#include <cstdint>
#include <vector>

namespace strata {

// Count, mean and sums of powers of deviations from the mean, in double precision.
struct Moments {
  double count = 0, mean = 0, m2 = 0, m3 = 0, m4 = 0;

  double variance() const { return count > 0 ? m2 / count : 0; }
  // Population Pearson kurtosis E[(x-mu)^4] / E[(x-mu)^2]^2 (normal = 3); 0 when all values are equal.
  double kurtosis() const { return m2 > 0 ? count * m4 / (m2 * m2) : 0; }
  // Population excess kurtosis (normal = 0); 0 when all values are equal.
  double excess_kurtosis() const { return m2 > 0 ? kurtosis() - 3 : 0; }

  // Joins two disjoint samples (Pebay 2008, equations 2.1 and 3.1).
  void merge(const Moments& other);
};

// Moments of n values, computed in threads over fixed chunks: the result does not depend on their number.
Moments moments(const float* values, int64_t n);

// Median (mean of the middle two for an even count); 0 for an empty sample.
double median(std::vector<double> values);

// Median of |x - median(x)|.
double median_absolute_deviation(const std::vector<double>& values);

// Ranks 1..n with ties given their mean rank.
std::vector<double> ranks(const std::vector<double>& values);

// Spearman's rank correlation; 0 when one side is constant.
double rank_correlation(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace strata
