#include "strata/core/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "strata/core/random.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

std::vector<float> sample(int64_t n, uint64_t seed, double offset, bool heavy_tails) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) {
    const double x = random.normal();
    value = static_cast<float>(offset + (heavy_tails ? x * x * x : x));
  }
  return values;
}

// Central moments in extended precision by their definition.
struct Reference {
  long double mean = 0, m2 = 0, m3 = 0, m4 = 0;
  explicit Reference(const std::vector<float>& values) {
    for (float v : values) mean += v;
    mean /= static_cast<long double>(values.size());
    for (float v : values) {
      const long double d = v - mean;
      m2 += d * d;
      m3 += d * d * d;
      m4 += d * d * d * d;
    }
  }
};

void expect_close(double actual, long double expected, double scale) {
  EXPECT_NEAR(actual, static_cast<double>(expected), 1e-11 * scale);
}

TEST(Moments, AgreeWithBruteForce) {
  for (int64_t n : {1, 2, 7, 8, 9, 4095, 4096, 4097, 50000}) {
    for (double offset : {0.0, 3.0, -1000.0}) {
      for (bool heavy : {false, true}) {
        const auto values = sample(n, 17 + n, offset, heavy);
        const Reference reference(values);
        const Moments m = moments(values.data(), n);
        EXPECT_EQ(m.count, n);
        expect_close(m.mean, reference.mean, std::abs(offset) + 1);
        expect_close(m.m2, reference.m2, static_cast<double>(reference.m2) + 1e-9);
        const double m3_scale = std::pow(static_cast<double>(reference.m2), 1.5) + 1e-9;
        expect_close(m.m3, reference.m3, m3_scale);
        expect_close(m.m4, reference.m4, static_cast<double>(reference.m4) + 1e-9);
        if (n > 1) {
          EXPECT_NEAR(m.kurtosis(), static_cast<double>(n * reference.m4 / (reference.m2 * reference.m2)),
                      1e-9 * m.kurtosis());
        }
        EXPECT_NEAR(m.variance(), static_cast<double>(reference.m2 / n), 1e-9 * m.variance());
      }
    }
  }
}

TEST(Moments, KurtosisOfKnownSamples) {
  const std::vector<float> coin = {-1, 1, -1, 1};  // a fair coin has the smallest kurtosis there is: 1
  EXPECT_DOUBLE_EQ(moments(coin.data(), 4).kurtosis(), 1);
  EXPECT_DOUBLE_EQ(moments(coin.data(), 4).excess_kurtosis(), -2);
  const auto normal = sample(400000, 5, 2, false);
  EXPECT_NEAR(moments(normal.data(), 400000).kurtosis(), 3, 0.05);
}

TEST(Moments, ConstantAndEmptySamplesHaveNoKurtosis) {
  const std::vector<float> constant(10000, 0.1f);
  const Moments m = moments(constant.data(), 10000);
  EXPECT_EQ(m.kurtosis(), 0);
  EXPECT_EQ(m.excess_kurtosis(), 0);
  EXPECT_FLOAT_EQ(static_cast<float>(m.mean), 0.1f);
  EXPECT_EQ(moments(nullptr, 0).count, 0);
  EXPECT_EQ(moments(nullptr, 0).variance(), 0);
}

TEST(Moments, MergingPartsGivesTheWhole) {
  const auto values = sample(1000, 9, 1, true);
  const Moments whole = moments(values.data(), 1000);
  for (int64_t cut : {0, 1, 333, 999, 1000}) {
    Moments left = moments(values.data(), cut);
    left.merge(moments(values.data() + cut, 1000 - cut));
    EXPECT_EQ(left.count, 1000);
    EXPECT_NEAR(left.mean, whole.mean, 1e-12);
    EXPECT_NEAR(left.m2, whole.m2, 1e-11 * whole.m2);
    EXPECT_NEAR(left.m3, whole.m3, 1e-11 * std::pow(whole.m2, 1.5));
    EXPECT_NEAR(left.m4, whole.m4, 1e-11 * whole.m4);
  }
}

TEST(Moments, DoNotDependOnTheNumberOfThreads) {
  const auto values = sample(600000, 3, 0.5, true);
  set_thread_count(1);
  const Moments one = moments(values.data(), 600000);
  set_thread_count(3);
  const Moments three = moments(values.data(), 600000);
  set_thread_count(0);
  EXPECT_EQ(one.mean, three.mean);
  EXPECT_EQ(one.m2, three.m2);
  EXPECT_EQ(one.m3, three.m3);
  EXPECT_EQ(one.m4, three.m4);
}

TEST(Median, OddEvenEmptyAndTies) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({4}), 4);
  EXPECT_EQ(median({3, 1}), 2);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({1, 9, 5, 2}), 3.5);
  EXPECT_EQ(median({2, 2, 2, 100}), 2);
}

TEST(Median, AbsoluteDeviation) {
  // Median 2, distances 1 1 0 0 2 4 7, their median 1 (the textbook example).
  EXPECT_EQ(median_absolute_deviation({1, 1, 2, 2, 4, 6, 9}), 1);
  EXPECT_EQ(median_absolute_deviation({5, 5, 5}), 0);
  EXPECT_EQ(median_absolute_deviation({}), 0);
}

TEST(Ranks, TiesTakeTheirMeanRank) {
  EXPECT_EQ(ranks({10, 30, 20}), (std::vector<double>{1, 3, 2}));
  EXPECT_EQ(ranks({5, 1, 5, 5, 9}), (std::vector<double>{3, 1, 3, 3, 5}));
  EXPECT_TRUE(ranks({}).empty());
}

TEST(RankCorrelation, KnownValues) {
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3, 4}, {10, 20, 30, 1000}), 1);
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3, 4}, {4, 3, 2, 1}), -1);
  // Without ties: 1 - 6 sum d^2 / (n (n^2 - 1)), here d = 1, 1, 1, 1, 0.
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3, 4, 5}, {2, 1, 4, 3, 5}), 1 - 6.0 * 4 / (5 * 24));
  EXPECT_EQ(rank_correlation({1, 2, 3}, {7, 7, 7}), 0);
}

}  // namespace
}  // namespace strata
