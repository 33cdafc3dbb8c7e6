#include "strata/quantization/mixed_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/quantization/calibrated_quantizer.h"
#include "tests/support/error_of.h"
#include "tests/support/values_of.h"

namespace strata {
namespace {

Matrix<float> random_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix<float> weights(rows, cols);
  Random random(seed);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) weights.row(r)[c] = static_cast<float>(random.normal() * (1 + r % 5));
  return weights;
}

QuantizerOptions options_of(const std::string& name, const float* row_impact = nullptr) {
  QuantizerOptions options;
  options.name = name;
  options.row_impact = row_impact;
  return options;
}

TEST(MixedRows, NamesAreParsedBack) {
  for (const char* name : {"w2g64+w3@0.1", "w3row+w8@0", "w2g32s+w3@1", "w4g128z+w5@0.333", "w2g64sm+w4@0.02",
                           "w2g64+w3@1e-05"}) {
    const Scheme scheme = parse_scheme(name);
    EXPECT_EQ(scheme.kind, Scheme::Kind::MixedRows);
    EXPECT_EQ(scheme.name(), name);
  }
  const Scheme scheme = parse_scheme(" W2G64Z+W4@0.50");
  EXPECT_EQ(scheme.name(), "w2g64z+w4@0.5");
  EXPECT_EQ(scheme.affine.bits, 2);
  EXPECT_EQ(scheme.high_bits, 4);
  EXPECT_TRUE(scheme.high_affine().integer_zero);
  EXPECT_EQ(scheme.high_ratio, 0.5);
}

TEST(MixedRows, WrongNamesAreRefused) {
  for (const char* name :
       {"w2g64+w3", "w2g64+3@0.1", "w2g64+w@0.1", "w2g64+w3@", "w2g64+w3@0.1x", "w2g64+w3 0.1",
        "w2g64+w9@0.1", "w3g64+w3@0.1", "w3g64+w2@0.1", "w2g64a0+w3@0.1", "Q4_K+w5@0.1", "w2g64+w3@-0.1",
        "w2g64+w3@1.01", "w2g64+w3@nan", "w2g64+w3@inf", "w2g64+w3@0.1+w4@0.1"})
    EXPECT_THROW(parse_scheme(name), UsageError) << name;
  EXPECT_EQ(
      error_of([] { parse_scheme("w2g64+w3@1.5"); }),
      "scheme 'w2g64+w3@1.5' gives the ratio '1.5' of its rows more bits; a number from 0 to 1 was expected");
  EXPECT_NE(error_of([] { parse_scheme("w2g64a0+w3@0.5"); }).find("(a0)"), std::string::npos);
}

TEST(MixedRows, MenuHasThePapersRatios) {
  std::vector<std::string> names;
  for (const Scheme& scheme : parse_schemes("W2g64s+W3, w2g64s+w3@0.05,w2g64s+w3@1"))
    names.push_back(scheme.name());
  EXPECT_EQ(names, (std::vector<std::string>{"w2g64s+w3@0.02", "w2g64s+w3@0.05", "w2g64s+w3@0.1",
                                             "w2g64s+w3@0.15", "w2g64s+w3@0.2", "w2g64s+w3@1"}));
}

TEST(MixedRows, StoredBitsByHand) {
  // 40 rows of 100 weights, 10 of them with 3 bits. 2 bits: 7 words a row; 3 bits: 10; 4 groups of 32 bits a
  // row; a bit a row in 5 bytes.
  EXPECT_EQ(parse_scheme("w2g32+w3@0.25").stored_bits(40, 100), 30u * 7 * 32 + 10 * 10 * 32 + 160 * 32 + 40);
  // One row: its number costs less than a bit a row.
  EXPECT_EQ(parse_scheme("w2g32+w3@0.02").stored_bits(40, 100), 39u * 7 * 32 + 10 * 32 + 160 * 32 + 32);
  // Zero points that are codes: 39 codes of 2 bits make 3 words, one of 3 bits makes one, in 4 columns.
  EXPECT_EQ(parse_scheme("w2g32z+w3@0.02").stored_bits(40, 100),
            39u * 7 * 32 + 10 * 32 + 160 * 16 + 4 * (3 + 1) * 32 + 32);
  // Fewer than half a row is none, and no row or all rows need no list.
  for (const char* end : {"w2g32+w3@0", "w2g32+w3@0.01"})
    EXPECT_EQ(parse_scheme(end).stored_bits(40, 100), parse_scheme("w2g32").stored_bits(40, 100));
  EXPECT_EQ(parse_scheme("w2g32+w3@1").stored_bits(40, 100), parse_scheme("w3g32").stored_bits(40, 100));
  EXPECT_EQ(parse_scheme("w2g32+w3@0.5").stored_bits(0, 100), 0u);
  EXPECT_THROW(parse_scheme("w2g32+w3@0.5").stored_bits(-1, 100), Error);
}

TEST(MixedRows, CodeBitsAreTheMeanOverRows) {
  EXPECT_DOUBLE_EQ(parse_scheme("w2g32+w4@0.25").code_bits_per_weight(40, 100), 2.5);
  EXPECT_DOUBLE_EQ(parse_scheme("w2g32+w3@0.25").code_bits_per_weight(10, 100), 2.3);  // 2.5 rows are 3
}

TEST(MixedRows, RowsOfTheLargestImpactAreChosen) {
  const std::vector<float> impact = {1, 5, -2, 5, 5, 0};
  EXPECT_EQ(high_rows(impact, 0), (std::vector<int64_t>{}));
  EXPECT_EQ(high_rows(impact, 2), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(high_rows(impact, 4), (std::vector<int64_t>{0, 1, 3, 4}));
  EXPECT_EQ(high_rows(impact, 6).size(), 6u);
  EXPECT_THROW(high_rows(impact, 7), Error);
  EXPECT_EQ(error_of([] {
              high_rows({0, std::nanf("")}, 1);
            }),
            "the impact of row 1 is nan; a finite number was expected");
  EXPECT_EQ(error_of([] {
              impacts_of({{"a.weight", {1, 2}}}, "a.weight", 3);
            }),
            "2 impacts of rows were given for a.weight, which has 3 rows");
  EXPECT_EQ(impacts_of({{"a.weight", {1, 2}}}, "b.weight", 3), nullptr);
}

// With scales along rows a row does not know of the others: it is as in the whole matrix of its width.
TEST(MixedRows, EveryRowIsQuantizedAtItsWidth) {
  const Matrix<float> weights = random_matrix(37, 90, 1);
  std::vector<float> impact(37);
  for (size_t r = 0; r < impact.size(); ++r) impact[r] = static_cast<float>(r * 11 % 37);
  for (const char* name : {"w2g32+w3@0.3", "w3row+w6@0.5", "w2g64s+w3@0.02", "w2g32z+w4@0.9"}) {
    const Scheme scheme = parse_scheme(name);
    for (const char* quantizer : {"rtn", "hqq"}) {
      const QuantizerOptions options = options_of(quantizer, impact.data());
      const QuantizedMatrix matrix = quantize_matrix(weights.view(), scheme, options);
      EXPECT_EQ(matrix.mixed.high_rows, high_rows(impact, scheme.high_row_count(37)));
      const std::vector<float> mixed = values_of(matrix);
      Matrix<float> low = weights, high = weights;
      Scheme plain;
      plain.affine = scheme.affine;
      fake_quantize(low.view(), plain, options);
      plain.affine = scheme.high_affine();
      fake_quantize(high.view(), plain, options);
      for (int64_t r = 0; r < 37; ++r) {
        const auto& rows = matrix.mixed.high_rows;
        const float* expected =
            std::find(rows.begin(), rows.end(), r) != rows.end() ? high.row(r) : low.row(r);
        for (int64_t c = 0; c < 90; ++c) ASSERT_EQ(mixed[r * 90 + c], expected[c]) << name << " row " << r;
      }
    }
  }
}

TEST(MixedRows, NoRowAndAllRowsAreThePlainSchemes) {
  const Matrix<float> weights = random_matrix(20, 64, 2);
  for (const auto& [mixed, plain] : {std::pair("w2g32m+w3@0", "w2g32m"), std::pair("w2g32m+w3@1", "w3g32m")})
    EXPECT_EQ(values_of(quantize_matrix(weights.view(), parse_scheme(mixed), {})),
              values_of(quantize_matrix(weights.view(), parse_scheme(plain), {})));
}

TEST(MixedRows, WithoutImpactsTheSquaredErrorIsTheLeastOfAllChoices) {
  const Matrix<float> weights = random_matrix(8, 40, 3);
  const Scheme scheme = parse_scheme("w2g32+w3@0.375");
  double least = std::numeric_limits<double>::infinity();
  for (int set = 0; set < 256; ++set) {
    std::vector<float> impact(8);
    for (int r = 0; r < 8; ++r) impact[r] = static_cast<float>(set >> r & 1);
    if (std::count(impact.begin(), impact.end(), 1.0f) != 3) continue;
    least = std::min(least, quantization_error(weights.view(), scheme, options_of("hqq", impact.data())));
  }
  EXPECT_DOUBLE_EQ(quantization_error(weights.view(), scheme, options_of("hqq")), least);
}

TEST(MixedRows, ErrorIsThatOfTheValues) {
  Matrix<float> weights = random_matrix(16, 64, 4);
  const Matrix<float> before = weights;
  const Scheme scheme = parse_scheme("w2g64+w3@0.2");
  const double expected = quantization_error(weights.view(), scheme, {});
  EXPECT_EQ(fake_quantize(weights.view(), scheme, {}), expected);
  EXPECT_EQ(weights.values, values_of(quantize_matrix(before.view(), scheme, {})));
  double sum = 0;
  for (size_t i = 0; i < before.values.size(); ++i)
    sum += std::pow(static_cast<double>(before.values[i]) - weights.values[i], 2);
  EXPECT_NEAR(expected, sum, 1e-9 * sum);
  weights.row(3)[5] = std::nanf("");
  EXPECT_THROW(quantize_matrix(weights.view(), scheme, {}), Error);
}

}  // namespace
}  // namespace strata
