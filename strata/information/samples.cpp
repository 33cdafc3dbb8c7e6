#include "strata/information/samples.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/random.h"

namespace strata {
namespace {

constexpr double kEulerGamma = 0.57721566490153286;
constexpr double kNoise = 1e-6;

// Where the values for which `holds` end. Without branches, which would be foretold wrongly half of the time.
template <class Predicate>
const float* first_without(const std::vector<float>& sorted, const Predicate& holds) {
  const float* begin = sorted.data();
  size_t count = sorted.size();
  while (count > 1) {
    const size_t half = count / 2;
    begin = holds(begin[half - 1]) ? begin + half : begin;
    count -= half;
  }
  return begin + (count == 1 && holds(*begin));
}

}  // namespace

std::vector<float> standardised(const float* values, int64_t n, int neighbours, uint64_t seed) {
  if (neighbours < 1 || neighbours > kMostNeighbours)
    fail("{} neighbours were asked for, but the estimators take 1 to {}", neighbours, kMostNeighbours);
  if (n < neighbours + 2)
    fail("{} samples are too few to estimate mutual information with {} neighbours; give at least {}", n,
         neighbours, neighbours + 2);
  double mean = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) mean += values[i];
  mean /= static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) squares += (values[i] - mean) * (values[i] - mean);
  if (!std::isfinite(squares)) fail("mutual information was asked of values that are not finite");
  const double deviation = std::sqrt(squares / static_cast<double>(n));
  if (!(deviation > 1e-7 * std::abs(mean)) || deviation < 1e-30) return {};
  Random random(seed);
  std::vector<float> result(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    result[static_cast<size_t>(i)] =
        static_cast<float>((values[i] - mean) / deviation + kNoise * (random.uniform() - 0.5));
  return result;
}

size_t count_within(const std::vector<float>& sorted, float value, float radius) {
  const float* low = first_without(sorted, [=](float x) { return value - x >= radius; });
  const float* high = first_without(sorted, [=](float x) { return x - value < radius; });
  return static_cast<size_t>(std::max<std::ptrdiff_t>(1, high - low));
}

std::vector<double> digamma_table(int64_t n) {
  std::vector<double> psi(static_cast<size_t>(n) + 1, -kEulerGamma);
  for (size_t i = 2; i < psi.size(); ++i) psi[i] = psi[i - 1] + 1.0 / static_cast<double>(i - 1);
  return psi;
}

}  // namespace strata
