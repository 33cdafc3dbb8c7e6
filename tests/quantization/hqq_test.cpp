#include "strata/quantization/hqq.h"

#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/dtype.h"
#include "strata/quantization/quantizer.h"
#include "tests/quantization/affine_reference.h"

namespace strata {
namespace {

constexpr double kP = 0.7;

float as_half(double value) {
  return half_to_float(float_to_half(static_cast<float>(value)));
}

// The published method in double precision, one step after the other over the whole matrix: it stops when the
// mean |e| of the matrix no longer falls and keeps the zero points of
// the last update; scales and zero points are then stored in fp16.
std::vector<float> reference_hqq(const Matrix<float>& weights, const AffineScheme& scheme) {
  const auto groups = groups_of(scheme, weights.rows, weights.cols);
  const double q_max = (1 << scheme.bits) - 1;
  std::vector<double> s(groups.size()), z(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    double lowest = HUGE_VAL, highest = -HUGE_VAL;
    for (int64_t i : groups[g]) {
      lowest = std::min<double>(lowest, weights.values[i]);
      highest = std::max<double>(highest, weights.values[i]);
    }
    s[g] = std::min(q_max / (highest - lowest), 2e4);
    z[g] = -lowest * s[g];
    if (scheme.bits == 4) z[g] = std::nearbyint(z[g]);
  }
  const auto code = [&](size_t g, double w) {
    return std::clamp(std::nearbyint(w * s[g] + z[g]), 0.0, q_max);
  };
  double best = HUGE_VAL, beta = 10;
  for (int iteration = 0; iteration < 20; ++iteration, beta *= 1.01) {
    double absolute = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
      double sum = 0;
      for (int64_t i : groups[g]) {
        const double w = weights.values[i], q = code(g, w), e = w - (q - z[g]) / s[g];
        absolute += std::abs(e);
        const double kept = e == 0 ? 0 : std::max(0.0, std::abs(e) - std::pow(std::abs(e), kP - 1) / beta);
        sum += q - (w - std::copysign(kept, e)) * s[g];
      }
      z[g] = sum / static_cast<double>(groups[g].size());
    }
    if (absolute >= best) break;
    best = absolute;
  }
  std::vector<float> rounded(weights.values.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    const float scale = as_half(1 / s[g]), zero = as_half(z[g]);
    for (int64_t i : groups[g]) rounded[i] = (static_cast<float>(code(g, weights.values[i])) - zero) * scale;
  }
  return rounded;
}

struct Sample {
  const char* name;
  Matrix<float> weights;
};

// Deviations of 0.02 are what language models have; from about 1 on the shrinkage begins to act.
std::vector<Sample> samples() {
  return {{"normal", heavy_tailed_matrix(48, 256, 1, 0.02, 0)},
          {"heavy-tailed", heavy_tailed_matrix(48, 256, 2, 0.02, 50)},
          {"wide", heavy_tailed_matrix(48, 256, 3, 1.5, 0)},
          {"wide heavy-tailed", heavy_tailed_matrix(48, 256, 4, 1.0, 30)}};
}

struct Errors {
  double absolute, power, squared;  // sums of |e|, |e|^p and e^2
};

Errors errors_of(const Matrix<float>& weights, const std::vector<float>& rounded) {
  return {power_distance(weights.values, rounded, 1), power_distance(weights.values, rounded, kP),
          squared_distance(weights.values, rounded)};
}

Errors errors_of(const Matrix<float>& weights, const std::string& scheme, const QuantizerOptions& options) {
  Matrix<float> rounded = weights;
  fake_quantize(rounded.view(), parse_scheme(scheme), options);
  return errors_of(weights, rounded.values);
}

TEST(Hqq, ErrorsAreAtMostThoseOfThePublishedMethod) {
  for (const Sample& sample : samples()) {
    for (int bits : {2, 3, 4, 5, 6, 8}) {
      for (const char* layout : {"g32", "g64", "g128", "row", "g64a0", "rowa0"}) {
        const std::string scheme = "w" + std::to_string(bits) + layout;
        const Errors reference =
            errors_of(sample.weights, reference_hqq(sample.weights, parse_scheme(scheme).affine));
        const Errors ours = errors_of(sample.weights, scheme, {});
        // A thousandth for scales that fp16 rounds before the zero points are sought, not after.
        EXPECT_LE(ours.absolute, 1.001 * reference.absolute) << sample.name << " " << scheme;
        EXPECT_LE(ours.power, 1.001 * reference.power) << sample.name << " " << scheme;
      }
    }
  }
}

TEST(Hqq, LowersTheErrorOfRoundingToNearest) {
  for (const Sample& sample : samples()) {
    for (const char* scheme : {"w2g64", "w3g64", "w4g64", "w2g64a0", "w3g128", "w2g64m", "w3g64m"}) {
      const Errors nearest = errors_of(sample.weights, scheme, round_to_nearest());
      const Errors ours = errors_of(sample.weights, scheme, {});
      EXPECT_LT(ours.absolute, 0.99 * nearest.absolute) << sample.name << " " << scheme;
      EXPECT_LT(ours.power, 0.99 * nearest.power) << sample.name << " " << scheme;
    }
  }
}

TEST(Hqq, SymmetricScalesLowerTheSquaredError) {
  for (const Sample& sample : samples()) {
    for (const char* scheme : {"w2g64s", "w3g64s", "w4g128s", "w3rows", "w3g64sa0", "w3g64sm"}) {
      const Errors nearest = errors_of(sample.weights, scheme, round_to_nearest());
      const Errors ours = errors_of(sample.weights, scheme, {});
      EXPECT_LT(ours.squared, 0.98 * nearest.squared) << sample.name << " " << scheme;
    }
  }
}

// The best of the same candidates for every group, in double precision.
TEST(Hqq, SymmetricScalesAreTheBestOfTheirCandidates) {
  const auto weights = heavy_tailed_matrix(20, 128, 10);
  for (const char* name : {"w2g64s", "w3g64s", "w4g64sa0"}) {
    const AffineScheme scheme = parse_scheme(name).affine;
    const AffineMatrix ours = quantize_affine(weights.view(), scheme, {});
    const AffineMatrix start = quantize_affine(weights.view(), scheme, round_to_nearest());
    const auto groups = groups_of(scheme, weights.rows, weights.cols);
    const double zero = 1 << (scheme.bits - 1), top = (1 << scheme.bits) - 1;
    const auto squared_error = [&](size_t g, double scale) {
      double sum = 0;
      for (int64_t i : groups[g]) {
        const double code = std::clamp(std::nearbyint(weights.values[i] / scale + zero), 0.0, top);
        const double e = weights.values[i] - (code - zero) * scale;
        sum += e * e;
      }
      return sum;
    };
    for (size_t g = 0; g < groups.size(); ++g) {
      double best = HUGE_VAL;
      for (int step = 0; step <= 20; ++step)
        best = std::min(best, squared_error(g, as_half(start.scales[g] * std::pow(0.94, step))));
      // The search starts from the scale before fp16 rounds it.
      EXPECT_LE(squared_error(g, ours.scales[g]), 1.01 * best) << name << " " << g;
    }
  }
}

// Beside every scale and every zero point, tried one by one in double precision.
TEST(Hqq, IntegerZerosAreNearlyTheBestOfAll) {
  const Matrix<float> weights = heavy_tailed_matrix(24, 64, 3);
  for (int bits : {2, 3, 4}) {
    const AffineScheme scheme = parse_scheme("w" + std::to_string(bits) + "g64z").affine;
    QuantizerOptions options;
    const AffineMatrix q = quantize_affine(weights.view(), scheme, options);
    const auto values = dequantized(q);
    double error = 0, best = 0;
    for (size_t i = 0; i < values.size(); ++i) error += std::pow(double(values[i]) - weights.values[i], 2);
    const int top = (1 << bits) - 1;
    for (int64_t r = 0; r < weights.rows; ++r) {
      const auto [low, high] = std::minmax_element(weights.row(r), weights.row(r) + 64);
      const double range = std::max(0.0f, *high) - std::min(0.0f, *low);
      double least = HUGE_VAL;
      for (int zero = 0; zero <= top; ++zero)
        for (double scale = range / top; scale > 0.2 * range / top; scale *= 0.99) {
          double sum = 0;
          for (int64_t c = 0; c < 64; ++c) {
            const double w = weights.row(r)[c];
            const double code = std::min<double>(std::max(0.0, std::nearbyint(w / scale + zero)), top);
            sum += std::pow(w - (code - zero) * scale, 2);
          }
          least = std::min(least, sum);
        }
      best += least;
    }
    EXPECT_LT(error, 1.12 * best) << bits;
    QuantizerOptions nearest;
    nearest.name = "rtn";
    EXPECT_LT(error,
              quantization_error(weights.view(), parse_scheme("w" + std::to_string(bits) + "g64z"), nearest));
  }
}

TEST(Hqq, WithoutIterationsIsRoundingToNearest) {
  QuantizerOptions none;
  none.hqq_iterations = 0;
  const auto weights = heavy_tailed_matrix(20, 128, 7);
  for (const char* name : {"w3g32s", "w3g32sm", "w2rowsa0"}) {
    Matrix<float> ours = weights, nearest = weights;
    fake_quantize(ours.view(), parse_scheme(name), none);
    fake_quantize(nearest.view(), parse_scheme(name), round_to_nearest());
    EXPECT_EQ(ours.values, nearest.values) << name;
  }
}

TEST(Hqq, MoreIterationsNeverRaiseTheError) {
  const auto weights = heavy_tailed_matrix(32, 128, 8, 1.0, 30);
  for (const char* scheme : {"w2g64", "w3g64ma0", "w4g64"}) {
    double before = HUGE_VAL;
    for (int iterations : {0, 1, 3, 10, 20}) {
      QuantizerOptions options;
      options.hqq_iterations = iterations;
      const double now = errors_of(weights, scheme, options).absolute;
      EXPECT_LE(now, 1.002 * before) << scheme << " " << iterations;  // storage rounds the best zero point
      before = now;
    }
  }
}

TEST(Hqq, SecondLevelCostsLittleError) {
  const auto weights = heavy_tailed_matrix(64, 512, 9);
  for (int bits : {2, 3, 4}) {
    const std::string base = "w" + std::to_string(bits) + "g64";
    EXPECT_LT(errors_of(weights, base + "m", {}).squared, 1.03 * errors_of(weights, base, {}).squared)
        << base;
  }
}

}  // namespace
}  // namespace strata
