// Against distributions whose information is known, and brute force over all pairs.
#include "strata/information/mutual_information.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/information/samples.h"
#include "tests/support/ross_by_pairs.h"

namespace strata {
namespace {

struct Samples {
  std::vector<float> x, y;
};

Samples correlated_gaussians(int64_t n, double correlation, uint64_t seed) {
  Random random(seed);
  Samples samples;
  for (int64_t i = 0; i < n; ++i) {
    const double a = random.normal(), b = random.normal();
    samples.x.push_back(static_cast<float>(a));
    samples.y.push_back(static_cast<float>(correlation * a + std::sqrt(1 - correlation * correlation) * b));
  }
  return samples;
}

// The formula over all pairs, on the standardised samples.
double kraskov_by_pairs(const std::vector<float>& x, const std::vector<float>& y, int k) {
  const size_t n = x.size();
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    std::vector<float> distances;
    for (size_t j = 0; j < n; ++j)
      if (j != i) distances.push_back(std::max(std::abs(x[i] - x[j]), std::abs(y[i] - y[j])));
    std::nth_element(distances.begin(), distances.begin() + k - 1, distances.end());
    const float radius = distances[static_cast<size_t>(k - 1)];
    int64_t near_x = 0, near_y = 0;
    for (size_t j = 0; j < n; ++j) {
      near_x += j != i && std::abs(x[i] - x[j]) < radius;
      near_y += j != i && std::abs(y[i] - y[j]) < radius;
    }
    sum += digamma(near_x + 1) + digamma(near_y + 1);
  }
  return digamma(k) + digamma(static_cast<int64_t>(n)) - sum / static_cast<double>(n);
}

TEST(Kraskov, CorrelatedGaussians) {
  for (double correlation : {0.0, 0.5, 0.9}) {
    double mean = 0;
    for (uint64_t seed = 0; seed < 8; ++seed) {
      const Samples s = correlated_gaussians(2000, correlation, seed);
      mean += kraskov_information(s.x.data(), s.y.data(), 2000) / 8;
    }
    EXPECT_NEAR(mean, -0.5 * std::log(1 - correlation * correlation), 0.02) << correlation;
  }
}

TEST(Kraskov, EqualsAllPairs) {
  for (int64_t n : {7, 64, 333}) {
    const Samples s = correlated_gaussians(n, 0.7, 5);
    for (int k : {1, 3, 5}) {
      const auto x = standardised(s.x.data(), n, k, 1), y = standardised(s.y.data(), n, k, 2);
      EXPECT_NEAR(kraskov_information(s.x.data(), s.y.data(), n, k), kraskov_by_pairs(x, y, k), 1e-9)
          << n << " " << k;
    }
  }
}

TEST(Kraskov, DoesNotChangeWithScaleAndShift) {
  const Samples s = correlated_gaussians(400, 0.6, 9);
  std::vector<float> moved = s.x;
  for (float& value : moved) value = 1000 * value - 77;
  EXPECT_NEAR(kraskov_information(moved.data(), s.y.data(), 400),
              kraskov_information(s.x.data(), s.y.data(), 400), 0.01);
}

TEST(Kraskov, TiesAndConstants) {
  std::vector<float> steps, other, constant(300, 2.5f);
  Random random(3);
  for (int i = 0; i < 300; ++i) {
    steps.push_back(static_cast<float>(i % 3));
    other.push_back(static_cast<float>(random.normal()));
  }
  EXPECT_EQ(kraskov_information(constant.data(), other.data(), 300), 0);
  EXPECT_NEAR(kraskov_information(steps.data(), other.data(), 300), 0, 0.12);
}

// Labels 0 and 1 with x ~ N(-d, 1) and N(d, 1): I = ln 2 - E[H(label | x)], by quadrature.
double mixture_information(double d) {
  double information = std::log(2.0);
  const double step = 1e-3;
  for (double x = -12 - d; x < 12 + d; x += step) {
    const double a = std::exp(-0.5 * (x - d) * (x - d)) / std::sqrt(8 * std::acos(-1.0));
    const double b = std::exp(-0.5 * (x + d) * (x + d)) / std::sqrt(8 * std::acos(-1.0));
    const double p = a / (a + b), q = 1 - p;
    if (p > 0 && q > 0) information += step * (a + b) * (p * std::log(p) + q * std::log(q));
  }
  return information;
}

TEST(Ross, GaussianMixtures) {
  for (double d : {0.0, 0.5, 1.5, 4.0}) {
    double mean = 0;
    for (uint64_t seed = 0; seed < 8; ++seed) {
      Random random(seed + 100);
      std::vector<float> x;
      std::vector<int64_t> labels;
      for (int i = 0; i < 2000; ++i) {
        labels.push_back(i % 2);
        x.push_back(static_cast<float>(random.normal() + (i % 2 == 0 ? -d : d)));
      }
      mean += ross_information(x.data(), labels.data(), 2000) / 8;
    }
    EXPECT_NEAR(mean, mixture_information(d), 0.02) << d;
  }
}

TEST(Ross, EqualsAllPairs) {
  Random random(8);
  std::vector<float> x;
  std::vector<int64_t> labels;
  for (int i = 0; i < 200; ++i) {
    labels.push_back(i % 7 == 0 ? 2 : i % 2);
    x.push_back(static_cast<float>(random.normal() + static_cast<double>(labels.back())));
  }
  for (int k : {1, 3, 4})
    EXPECT_NEAR(ross_information(x.data(), labels.data(), 200, k),
                ross_by_pairs(standardised(x.data(), 200, k, 1), labels, k), 1e-9)
        << k;
}

TEST(Ross, LeavesOutLoneLabels) {
  std::vector<float> x = {0, 1, 2, 3, 10, 11, 12, 13, 100};
  std::vector<int64_t> labels = {0, 0, 0, 0, 1, 1, 1, 1, 2};
  // The eight others are told apart perfectly, as far as three neighbours of four can show.
  const double without = ross_information(x.data(), labels.data(), 8);
  EXPECT_NEAR(ross_information(x.data(), labels.data(), 9), without, 1e-9);
  EXPECT_GT(without, 0.3);
}

TEST(Information, RefusesWhatItCannotEstimate) {
  const std::vector<float> x = {1, 2, 3, 4};
  const std::vector<int64_t> labels = {0, 1, 2, 3};
  EXPECT_THROW(kraskov_information(x.data(), x.data(), 4), Error);
  EXPECT_THROW(ross_information(x.data(), labels.data(), 4), Error);
  EXPECT_THROW(ross_information(x.data(), labels.data(), 4, 2), Error);  // no label twice
  std::vector<float> infinite = {1, 2, 3, 4, INFINITY, 5, 6};
  EXPECT_THROW(kraskov_information(infinite.data(), infinite.data(), 7), Error);
  EXPECT_THROW(kraskov_information(x.data(), x.data(), 4, 0), Error);
}

}  // namespace
}  // namespace strata
