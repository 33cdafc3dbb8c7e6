#include "strata/quantization/nf4.h"

#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/error.h"
#include "strata/quantization/quantizer.h"
#include "tests/quantization/affine_reference.h"

namespace strata {
namespace {

// The published levels are quantiles of the normal distribution (QLoRA, appendix E): eight from 0.5 to
// 0.9677083 and nine on the other side, each divided by the largest.
double normal_quantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

TEST(Nf4Test, LevelsAreTheQuantilesOfTheNormalDistribution) {
  constexpr double kOffset = 0.9677083;
  const double largest = normal_quantile(kOffset);
  for (int i = 0; i < 8; ++i) {
    const double positive = 0.5 + (kOffset - 0.5) * (i + 1) / 8, negative = kOffset - (kOffset - 0.5) * i / 7;
    EXPECT_NEAR(nf4_levels()[8 + i], normal_quantile(positive) / largest, 2e-6) << i;
    if (i < 7) {
      EXPECT_NEAR(nf4_levels()[i], -normal_quantile(negative) / largest, 2e-6) << i;
    }
  }
  EXPECT_EQ(nf4_levels()[7], 0);
}

TEST(Nf4Test, DynamicMapHasThePublishedEnds) {
  const auto& levels = dynamic_levels();
  EXPECT_TRUE(std::is_sorted(levels.begin(), levels.end()));
  EXPECT_FLOAT_EQ(levels[0], -0.99296875f);
  EXPECT_FLOAT_EQ(levels[1], -0.97890625f);
  EXPECT_EQ(levels[127], 0);
  EXPECT_FLOAT_EQ(levels[128], 5.5e-7f);
  EXPECT_FLOAT_EQ(levels[254], 0.99296875f);
  EXPECT_EQ(levels[255], 1);
}

TEST(Nf4Test, EveryWeightTakesTheNearestLevelOfItsBlock) {
  const Matrix<float> weights = heavy_tailed_matrix(7, 75, 3);  // blocks run across rows; the last is partial
  const Nf4Matrix matrix = quantize_nf4(weights.view(), false);
  std::vector<float> rounded(weights.values.size());
  matrix.dequantize(rounded.data());
  for (size_t first = 0; first < rounded.size(); first += 64) {
    const size_t last = std::min(rounded.size(), first + 64);
    double magnitude = 0;
    for (size_t i = first; i < last; ++i) magnitude = std::max(magnitude, std::abs(1.0 * weights.values[i]));
    for (size_t i = first; i < last; ++i) {
      double nearest = INFINITY;
      for (const float level : nf4_levels())
        nearest = std::min(nearest, std::abs(level * magnitude - weights.values[i]));
      EXPECT_NEAR(std::abs(rounded[i] - weights.values[i]), nearest, 1e-6 * magnitude) << i;
    }
  }
}

TEST(Nf4Test, DoubleQuantizationKeepsMagnitudesWithinItsSteps) {
  const Matrix<float> weights = heavy_tailed_matrix(300, 128, 5);
  const Nf4Matrix once = quantize_nf4(weights.view(), false), twice = quantize_nf4(weights.view(), true);
  EXPECT_EQ(once.codes, twice.codes);
  ASSERT_EQ(twice.nested_codes.size(), 600u);
  ASSERT_EQ(twice.nested_magnitudes.size(), 3u);
  for (size_t i = 0; i < 600; ++i) {
    const float magnitude = twice.nested_magnitudes[i / 256];
    EXPECT_EQ(twice.magnitudes[i], dynamic_levels()[twice.nested_codes[i]] * magnitude + twice.mean);
    EXPECT_NEAR(twice.magnitudes[i], once.magnitudes[i], 0.008 * magnitude);
  }
}

TEST(Nf4Test, StoredBitsAreWhatThePartsTake) {
  const Matrix<float> weights = heavy_tailed_matrix(300, 129, 5);
  for (const char* name : {"nf4", "NF4dq"}) {
    const Scheme scheme = parse_scheme(name);
    EXPECT_EQ(parse_scheme(scheme.name()), scheme);
    const Nf4Matrix m = quantize_nf4(weights.view(), scheme.double_quantized);
    const uint64_t bits =
        scheme.double_quantized
            ? 8 * (m.codes.size() + m.nested_codes.size() + 4 * m.nested_magnitudes.size() + 4)
            : 8 * (m.codes.size() + 4 * m.magnitudes.size());
    EXPECT_EQ(scheme.stored_bits(300, 129), bits) << name;
    Matrix<float> rounded = weights;
    std::vector<float> expected(weights.values.size());
    m.dequantize(expected.data());
    const double error = fake_quantize(rounded.view(), scheme, {});
    EXPECT_EQ(rounded.values, expected);
    EXPECT_NEAR(error, squared_distance(weights.values, expected), 1e-9 * error);
  }
  EXPECT_NEAR(parse_scheme("nf4").stored_bits(4096, 4096) / 16777216.0, 4.5, 1e-9);
  EXPECT_NEAR(parse_scheme("nf4dq").stored_bits(4096, 4096) / 16777216.0, 4.127, 1e-3);
}

TEST(Nf4Test, ZerosStayAndTheNotFiniteIsRefused) {
  Matrix<float> weights(2, 64);
  std::vector<float> rounded(128, 1.0f);
  quantize_nf4(weights.view(), true).dequantize(rounded.data());
  for (const float value : rounded) EXPECT_EQ(value, 0);
  weights.values[70] = NAN;
  EXPECT_THROW(quantize_nf4(weights.view(), false), Error);
}

}  // namespace
}  // namespace strata
