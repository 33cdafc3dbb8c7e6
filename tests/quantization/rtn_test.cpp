#include "strata/quantization/rtn.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <limits>

#include "strata/core/bit_packing.h"
#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/gguf/codec.h"
#include "strata/quantization/quantizer.h"
#include "tests/quantization/affine_reference.h"

namespace strata {
namespace {

const std::vector<std::string> kQuantizers = {"rtn", "hqq"};

const std::vector<std::string> kLayouts = {"g32",  "g64",    "g128", "row",  "g32a0",  "g64a0", "rowa0",
                                           "g32m", "g64ma0", "rowm", "g32s", "rowsa0", "g32sm", "g64sma0"};

// Shapes with whole and partial groups, one row, one weight, and more rows than a tile has.
const std::vector<std::pair<int64_t, int64_t>> kShapes = {{17, 128}, {3, 100}, {1, 33}, {40, 7}, {1, 1}};

template <class Check>
void for_schemes_and_shapes(const Check& check) {
  for (int bits : {2, 3, 4, 5, 6, 8})
    for (const std::string& layout : kLayouts)
      for (const auto& [rows, cols] : kShapes) {
        const Scheme scheme = parse_scheme("w" + std::to_string(bits) + layout);
        SCOPED_TRACE(scheme.name() + " " + std::to_string(rows) + "x" + std::to_string(cols));
        check(scheme, heavy_tailed_matrix(rows, cols, static_cast<uint64_t>(rows * 1000 + cols)));
      }
}

TEST(Rtn, EveryCodeIsTheNearestUnderItsGroupsStoredScaleAndZero) {
  for_schemes_and_shapes([](const Scheme& scheme, const Matrix<float>& weights) {
    const AffineMatrix q = quantize_affine(weights.view(), scheme.affine, round_to_nearest());
    const auto values = dequantized(q);
    const auto groups = groups_of(scheme.affine, weights.rows, weights.cols);
    ASSERT_EQ(groups.size(), q.scales.size());
    ASSERT_EQ(groups.size(), q.zeros.size());
    for (size_t g = 0; g < groups.size(); ++g) {
      const double scale = q.scales[g], zero = q.zeros[g];
      for (int64_t i : groups[g]) {
        ASSERT_LT(q.codes[i], 1 << scheme.affine.bits);
        ASSERT_FLOAT_EQ(values[i], static_cast<float>((q.codes[i] - zero) * scale));
        double nearest = HUGE_VAL;
        for (int code = 0; code < 1 << scheme.affine.bits; ++code)
          nearest = std::min(nearest, std::abs(weights.values[i] - (code - zero) * scale));
        ASSERT_LE(std::abs(weights.values[i] - (q.codes[i] - zero) * scale),
                  nearest + 1e-5 * std::abs(scale) * std::max(1.0, std::abs(zero)));
      }
    }
  });
}

TEST(Rtn, ErrorsAreAtMostHalfAStep) {
  for_schemes_and_shapes([](const Scheme& scheme, const Matrix<float>& weights) {
    const AffineMatrix q = quantize_affine(weights.view(), scheme.affine, round_to_nearest());
    const auto values = dequantized(q);
    const auto groups = groups_of(scheme.affine, weights.rows, weights.cols);
    // Rounding the scale and zero point for storage may push the ends out by another half code, and an 8-bit
    // zero point of 8-bit codes may be half a code off.
    const double codes = scheme.affine.scales == ScaleStorage::Half ? 0.65 : 1.6;
    for (size_t g = 0; g < groups.size(); ++g)
      for (int64_t i : groups[g])
        ASSERT_LE(std::abs(weights.values[i] - values[i]), codes * std::abs(q.scales[g]));
  });
}

// A zero point is one of the codes, and a weight at most one step away: half of it from its own rounding,
// half from the zero point's.
TEST(Rtn, IntegerZerosAreCodes) {
  for (const char* quantizer : {"rtn", "hqq"})
    for (int bits = 2; bits <= 8; ++bits)
      for (const char* layout : {"g32z", "g128z", "rowz"})
        for (const auto& [rows, cols] : kShapes) {
          const Scheme scheme = parse_scheme("w" + std::to_string(bits) + layout);
          SCOPED_TRACE(scheme.name() + " " + quantizer);
          Matrix<float> weights = heavy_tailed_matrix(rows, cols, 5);
          for (int64_t c = 0; c < cols; ++c)
            weights.row(0)[c] = std::abs(weights.row(0)[c]);  // one sign only
          QuantizerOptions options;
          options.name = quantizer;
          const AffineMatrix q = quantize_affine(weights.view(), scheme.affine, options);
          for (const float zero : q.zeros) {
            ASSERT_EQ(zero, std::nearbyint(zero));
            ASSERT_TRUE(zero >= 0 && zero < static_cast<float>(1 << bits)) << zero;
          }
          if (options.name == "hqq") continue;
          const auto values = dequantized(q);
          const auto groups = groups_of(scheme.affine, rows, cols);
          for (size_t g = 0; g < groups.size(); ++g)
            for (const int64_t i : groups[g])
              ASSERT_LE(std::abs(values[i] - weights.values[i]), 1.001f * std::abs(q.scales[g]));
        }
}

TEST(Rtn, HalfScalesAreThoseOfTheGroupsRange) {
  for_schemes_and_shapes([](const Scheme& scheme, const Matrix<float>& weights) {
    if (scheme.affine.scales != ScaleStorage::Half) return;
    const AffineMatrix q = quantize_affine(weights.view(), scheme.affine, round_to_nearest());
    const auto groups = groups_of(scheme.affine, weights.rows, weights.cols);
    const double top = (1 << scheme.affine.bits) - 1, middle = 1 << (scheme.affine.bits - 1);
    for (size_t g = 0; g < groups.size(); ++g) {
      if (groups[g].size() == 1) continue;
      double lowest = HUGE_VAL, highest = -HUGE_VAL;
      for (int64_t i : groups[g]) {
        lowest = std::min<double>(lowest, weights.values[i]);
        highest = std::max<double>(highest, weights.values[i]);
      }
      double scale = (highest - lowest) / top, zero = -lowest / scale;
      if (scale < std::max(-lowest, highest) / 1024) continue;  // narrow for its distance from zero
      if (scheme.affine.symmetric) {
        // The smaller magnitude of two candidates: code 0 for the lowest weight, or for the highest.
        const double positive = std::max(-lowest / middle, highest / (middle - 1));
        const double negative = std::max(highest / middle, -lowest / (middle - 1));
        scale = negative < positive ? -negative : positive;
        zero = middle;
      }
      ASSERT_NEAR(q.scales[g], scale, std::abs(scale) * 0x1.0p-10 + 0x1.0p-25);
      ASSERT_NEAR(q.zeros[g], zero, 0.01 + (top + std::abs(zero)) * 0x1.0p-10);
      ASSERT_EQ(q.scales[g], half_to_float(float_to_half(q.scales[g])));
      ASSERT_EQ(q.zeros[g], half_to_float(float_to_half(q.zeros[g])));
    }
  });
}

TEST(Rtn, SecondLevelScalesAndZerosAreWhatItsCodesDecodeTo) {
  for (const char* name : {"w3g32m", "w4g32sm", "w2g32ma0"}) {
    const Scheme scheme = parse_scheme(name);
    const auto weights = heavy_tailed_matrix(40, 160, 5);  // 200 groups: two ranges, the second partial
    const AffineMatrix q = quantize_affine(weights.view(), scheme.affine, round_to_nearest());
    ASSERT_EQ(q.second_level.scale_codes.size(), 200u);
    ASSERT_EQ(q.second_level.scale_minimums.size(), 2u);
    ASSERT_EQ(q.second_level.scale_steps.size(), 2u);
    ASSERT_EQ(q.second_level.zero_codes.size(), scheme.affine.symmetric ? 0u : 200u);
    for (size_t g = 0; g < 200; ++g) {
      const double minimum = half_to_float(q.second_level.scale_minimums[g / 128]);
      const double step = half_to_float(q.second_level.scale_steps[g / 128]);
      EXPECT_FLOAT_EQ(q.scales[g], static_cast<float>(minimum + step * q.second_level.scale_codes[g]));
      EXPECT_GT(q.scales[g], 0);
      const double zero = scheme.affine.symmetric
                              ? 1 << (scheme.affine.bits - 1)
                              : half_to_float(q.second_level.zero_minimum) +
                                    static_cast<double>(half_to_float(q.second_level.zero_step)) *
                                        q.second_level.zero_codes[g];
      EXPECT_FLOAT_EQ(q.zeros[g], static_cast<float>(zero));
    }
  }
}

TEST(Rtn, SecondLevelCostsLittleError) {
  const auto weights = heavy_tailed_matrix(64, 512, 6);
  for (int bits : {2, 3, 4}) {
    const std::string base = "w" + std::to_string(bits) + "g64";
    const double half = quantization_error(weights.view(), parse_scheme(base), round_to_nearest());
    const double second_level =
        quantization_error(weights.view(), parse_scheme(base + "m"), round_to_nearest());
    EXPECT_LT(second_level, 1.03 * half) << base;
  }
}

// Bits of everything that a file would hold, by really packing it.
uint64_t packed_bits(const AffineMatrix& q) {
  uint64_t bits = 0;
  const int64_t streams = q.scheme.axis == 1 ? q.rows : 1, length = q.rows * q.cols / streams;
  for (int64_t s = 0; s < streams; ++s) {
    std::vector<uint32_t> words(static_cast<size_t>((length * q.scheme.bits + 31) / 32));
    pack_codes(q.codes.data() + s * length, length, q.scheme.bits, words.data());
    bits += 32 * words.size();
  }
  if (q.scheme.scales == ScaleStorage::Half) {
    std::vector<uint16_t> halves;
    for (float scale : q.scales) halves.push_back(float_to_half(scale));
    if (!q.scheme.symmetric)
      for (float zero : q.zeros) halves.push_back(float_to_half(zero));
    return bits + 16 * halves.size();
  }
  const SecondLevelCodes& second = q.second_level;
  bits += 8 * (second.scale_codes.size() + second.zero_codes.size());
  bits += 16 * (second.scale_minimums.size() + second.scale_steps.size());
  return bits + (q.scheme.symmetric ? 0 : 32);  // zero_minimum and zero_step
}

TEST(Rtn, StoredBitsAreThoseOfThePackedArrays) {
  for_schemes_and_shapes([](const Scheme& scheme, const Matrix<float>& weights) {
    const AffineMatrix q = quantize_affine(weights.view(), scheme.affine, round_to_nearest());
    EXPECT_EQ(packed_bits(q), scheme.stored_bits(weights.rows, weights.cols));
  });
}

TEST(Quantizer, FakeQuantizeIsQuantizeAndDequantize) {
  for (const std::string& name : kQuantizers) {
    QuantizerOptions options;
    options.name = name;
    for_schemes_and_shapes([&](const Scheme& scheme, const Matrix<float>& weights) {
      const auto expected = dequantized(quantize_affine(weights.view(), scheme.affine, options));
      Matrix<float> rounded = weights;
      const double error = fake_quantize(rounded.view(), scheme, options);
      ASSERT_EQ(rounded.values, expected);
      const double recomputed = squared_distance(weights.values, expected);
      ASSERT_NEAR(error, recomputed, 1e-5 * recomputed + 1e-20);
      Matrix<float> untouched = weights;
      ASSERT_EQ(quantization_error(untouched.view(), scheme, options), error);
      ASSERT_EQ(untouched.values, weights.values);
    });
  }
}

TEST(Quantizer, DoesNotDependOnTheNumberOfThreads) {
  const auto weights = heavy_tailed_matrix(150, 700, 8);
  for (const char* name : {"w3g64", "w3g64a0", "w2g32m", "w4rowsa0", "Q4_0"}) {
    const Scheme scheme = parse_scheme(name);
    set_thread_count(1);
    Matrix<float> one = weights, three = weights;
    const double error_one = fake_quantize(one.view(), scheme, {});
    set_thread_count(3);
    const double error_three = fake_quantize(three.view(), scheme, {});
    set_thread_count(0);
    EXPECT_EQ(one.values, three.values) << name;
    EXPECT_EQ(error_one, error_three) << name;
  }
}

TEST(Quantizer, ConstantAndZeroGroupsAreExact) {
  for (const std::string& quantizer : kQuantizers) {
    QuantizerOptions options;
    options.name = quantizer;
    for (const char* layout : {"g32", "g32s", "rowa0", "g32sa0"}) {
      for (int bits : {2, 3, 4, 8}) {
        for (float value : {0.0f, 1.0f, -1.0f, 0.3125f, -700.0f, 0x1.8p-9f}) {
          Matrix<float> weights(4, 96);
          std::fill(weights.values.begin(), weights.values.end(), value);
          const Scheme scheme = parse_scheme("w" + std::to_string(bits) + layout);
          Matrix<float> rounded = weights;
          EXPECT_EQ(fake_quantize(rounded.view(), scheme, options), 0)
              << quantizer << " " << scheme.name() << " " << value;
          EXPECT_EQ(rounded.values, weights.values);
        }
      }
    }
  }
}

TEST(Quantizer, ZeroRowsAmongOthersStayZero) {
  for (const char* name : {"w2g32", "w2g32s", "w3g32m", "w3g32sm"}) {
    auto weights = heavy_tailed_matrix(20, 64, 11);
    std::fill(weights.row(7), weights.row(8), 0.0f);
    fake_quantize(weights.view(), parse_scheme(name), {});
    for (int64_t c = 0; c < 64; ++c) EXPECT_NEAR(weights.row(7)[c], 0, 0.02) << name;
    // The neighbours did not become zero with it.
    EXPECT_GT(squared_distance(std::vector<float>(64, 0.0f), {weights.row(8), weights.row(9)}), 0);
  }
}

TEST(Quantizer, GroupsFarFromZeroKeepThePrecisionOfHalf) {
  for (float offset : {1.0f, -30.0f, 5000.0f}) {
    Random random(12);
    Matrix<float> weights(8, 128);
    for (float& w : weights.values) w = offset * (1 + 1e-5f * static_cast<float>(random.normal()));
    for (const char* name : {"w2g64", "w4g64a0", "w8row"}) {
      Matrix<float> rounded = weights;
      fake_quantize(rounded.view(), parse_scheme(name), round_to_nearest());
      for (size_t i = 0; i < rounded.values.size(); ++i)
        ASSERT_NEAR(rounded.values[i], weights.values[i], std::abs(offset) * 0x1.0p-10) << name;
    }
  }
}

TEST(Quantizer, ExtremeMagnitudesStayFinite) {
  const std::vector<std::vector<float>> patterns = {
      {FLT_MAX, -FLT_MAX, 0, 1},    {FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX},
      {1e-38f, -1e-38f, 1e-40f, 0}, {1e-7f, -3e-7f, 2e-8f, 1.5e-7f},
      {1e30f, 1e-30f, -1, 1},       {65504, -65504, 1e6f, 3},
      {3e-5f, -1e-6f, 2e-6f, 0}};
  for (const std::string& quantizer : kQuantizers) {
    QuantizerOptions options;
    options.name = quantizer;
    for (const auto& pattern : patterns) {
      for (const char* layout : {"g32", "g32s", "g32m", "g32sm", "g32a0", "rowma0"}) {
        for (int bits : {2, 8}) {
          Matrix<float> weights(5, 64);
          for (size_t i = 0; i < weights.values.size(); ++i) weights.values[i] = pattern[i % pattern.size()];
          const Scheme scheme = parse_scheme("w" + std::to_string(bits) + layout);
          Matrix<float> rounded = weights;
          EXPECT_TRUE(std::isfinite(fake_quantize(rounded.view(), scheme, options)));
          for (float w : rounded.values)
            ASSERT_TRUE(std::isfinite(w)) << quantizer << " " << scheme.name() << " " << pattern[0];
        }
      }
    }
  }
}

TEST(Quantizer, TinyScalesOfHalfStillCoverTheGroup) {
  // Steps of 4e-8 lie between fp16's zero and its smallest value: rounded down, the group would vanish.
  Matrix<float> weights(2, 32);
  for (size_t i = 0; i < weights.values.size(); ++i) weights.values[i] = static_cast<float>(i % 4) * 4e-8f;
  Matrix<float> rounded = weights;
  fake_quantize(rounded.view(), parse_scheme("w2g32"), round_to_nearest());
  for (size_t i = 0; i < weights.values.size(); ++i)
    EXPECT_NEAR(rounded.values[i], weights.values[i], 0x1.0p-25 * 1.01);
}

TEST(Quantizer, NonFiniteWeightsAreNamed) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), HUGE_VALF, -HUGE_VALF}) {
    for (const char* name : {"w4g32", "w4g32a0", "w4g32m", "w3g32s", "Q8_0", "F16"}) {
      auto weights = heavy_tailed_matrix(20, 96, 13);
      weights.row(18)[37] = bad;
      try {
        quantization_error(weights.view(), parse_scheme(name), {});
        FAIL() << name;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("row 18, column 37"), std::string::npos) << error.what();
      }
    }
  }
}

TEST(Quantizer, UnknownQuantizersAreRefused) {
  QuantizerOptions options;
  options.name = "magic";
  const auto weights = heavy_tailed_matrix(2, 32, 14);
  EXPECT_THROW(quantization_error(weights.view(), parse_scheme("w4g32"), options), UsageError);
}

TEST(Quantizer, EmptyMatricesAreNoWork) {
  for (const char* name : {"w4g32", "w4g32ma0", "w4rowa0", "Q8_0"}) {
    EXPECT_EQ(quantization_error({nullptr, 0, 64}, parse_scheme(name), {}), 0);
    EXPECT_EQ(quantization_error({nullptr, 64, 0}, parse_scheme(name), {}), 0);
  }
}

TEST(Quantizer, GgufSchemesGoThroughTheirBlocks) {
  const auto weights = heavy_tailed_matrix(19, 288, 15);  // 256 does not divide 288: Q4_K falls back to Q5_0
  for (const char* name : {"Q8_0", "Q4_K", "F16"}) {
    const Scheme scheme = parse_scheme(name);
    const GgufType type = stored_type(scheme.gguf, 288);
    std::vector<std::byte> blocks(static_cast<size_t>(19 * row_bytes(type, 288)));
    std::vector<float> expected(weights.values.size());
    encode_gguf(type, weights.values.data(), 19, 288, nullptr, blocks.data());
    decode_gguf(type, blocks.data(), 19 * 288, expected.data());
    Matrix<float> rounded = weights;
    const double error = fake_quantize(rounded.view(), scheme, {});
    EXPECT_EQ(rounded.values, expected) << name;
    EXPECT_NEAR(error, squared_distance(weights.values, expected), 1e-12 * error);
    EXPECT_GT(error, 0);
    EXPECT_EQ(quantization_error(weights.view(), scheme, {}), error);
  }
}

}  // namespace
}  // namespace strata
