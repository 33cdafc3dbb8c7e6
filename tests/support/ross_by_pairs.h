#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace strata {

inline double digamma(int64_t n) {
  double value = -0.57721566490153286;
  for (int64_t i = 1; i < n; ++i) value += 1.0 / static_cast<double>(i);
  return value;
}

// Ross 2014 over all pairs: psi(N) + psi(k) - <psi(N_label)> - <psi(m)>.
inline double ross_by_pairs(const std::vector<float>& x, const std::vector<int64_t>& labels, int k) {
  const size_t n = x.size();
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    std::vector<float> same;
    for (size_t j = 0; j < n; ++j)
      if (j != i && labels[j] == labels[i]) same.push_back(std::abs(x[i] - x[j]));
    std::nth_element(same.begin(), same.begin() + k - 1, same.end());
    const float radius = same[static_cast<size_t>(k - 1)];
    int64_t within = 0;
    for (size_t j = 0; j < n; ++j) within += j != i && std::abs(x[i] - x[j]) <= radius;
    sum += digamma(k) - digamma(static_cast<int64_t>(same.size()) + 1) - digamma(within);
  }
  return digamma(static_cast<int64_t>(n)) + sum / static_cast<double>(n);
}

}  // namespace strata
