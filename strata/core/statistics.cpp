#include "strata/core/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "strata/core/threads.h"

namespace strata {
namespace {

// Two passes over a chunk that fits the cache, with eight partial sums so that the compiler can vectorise.
Moments chunk_moments(const float* x, int64_t n) {
  constexpr int kLanes = 8;
  Moments m;
  m.count = static_cast<double>(n);
  double sum[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) sum[k] += x[i + k];
  for (; i < n; ++i) sum[0] += x[i];
  m.mean = std::accumulate(sum, sum + kLanes, 0.0) / static_cast<double>(n);

  double s2[kLanes] = {}, s3[kLanes] = {}, s4[kLanes] = {};
  const auto add = [&](int lane, float value) {
    const double d = value - m.mean, d2 = d * d;
    s2[lane] += d2;
    s3[lane] += d2 * d;
    s4[lane] += d2 * d2;
  };
  for (i = 0; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) add(k, x[i + k]);
  for (; i < n; ++i) add(0, x[i]);
  m.m2 = std::accumulate(s2, s2 + kLanes, 0.0);
  m.m3 = std::accumulate(s3, s3 + kLanes, 0.0);
  m.m4 = std::accumulate(s4, s4 + kLanes, 0.0);
  return m;
}

}  // namespace

void Moments::merge(const Moments& b) {
  if (b.count == 0) return;
  if (count == 0) {
    *this = b;
    return;
  }
  const double na = count, nb = b.count, n = na + nb;
  const double d = b.mean - mean, dn = d / n, dn2 = dn * dn;
  const double new_m4 = m4 + b.m4 + d * dn * dn2 * na * nb * (na * na - na * nb + nb * nb) +
                        6 * dn2 * (na * na * b.m2 + nb * nb * m2) + 4 * dn * (na * b.m3 - nb * m3);
  m3 += b.m3 + d * dn2 * na * nb * (na - nb) + 3 * dn * (na * b.m2 - nb * m2);
  m4 = new_m4;
  m2 += b.m2 + d * dn * na * nb;
  mean += dn * nb;
  count = n;
}

Moments moments(const float* values, int64_t n) {
  constexpr int64_t kChunk = 4096;
  std::vector<Moments> parts(static_cast<size_t>((n + kChunk - 1) / kChunk));
  parallel_for(static_cast<int64_t>(parts.size()), 64, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      parts[c] = chunk_moments(values + c * kChunk, std::min(kChunk, n - c * kChunk));
  });
  Moments total;
  for (const Moments& part : parts) total.merge(part);
  return total;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

double median_absolute_deviation(const std::vector<double>& values) {
  const double centre = median(values);
  std::vector<double> distances;
  distances.reserve(values.size());
  for (double v : values) distances.push_back(std::abs(v - centre));
  return median(std::move(distances));
}

std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> rank(values.size());
  for (size_t i = 0; i < order.size();) {
    size_t j = i;
    while (j < order.size() && values[order[j]] == values[order[i]]) ++j;
    for (size_t k = i; k < j; ++k) rank[order[k]] = (static_cast<double>(i + j) + 1) / 2;
    i = j;
  }
  return rank;
}

double rank_correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const std::vector<double> ra = ranks(a), rb = ranks(b);
  const double n = static_cast<double>(ra.size()), mean = (n + 1) / 2;
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < ra.size(); ++i) {
    ab += (ra[i] - mean) * (rb[i] - mean);
    aa += (ra[i] - mean) * (ra[i] - mean);
    bb += (rb[i] - mean) * (rb[i] - mean);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

}  // namespace strata
