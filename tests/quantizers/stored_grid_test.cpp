#include "strata/quantizers/stored_grid.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cstring>

#include "strata/core/random.h"
#include "tests/support/error_of.h"

namespace strata {
namespace {

at::Tensor grid_weights(int64_t rows, int64_t cols) {
  Random random(7);
  at::Tensor weights = at::empty({rows, cols}, at::kFloat);
  for (int64_t i = 0; i < weights.numel(); ++i)
    weights.data_ptr<float>()[i] = static_cast<float>(0.1 * random.normal() + 0.02);
  weights[1].zero_();  // scales of zero
  return weights;
}

QuantizedMatrix quantized(const std::string& scheme, int64_t rows = 10, int64_t cols = 512) {
  const at::Tensor weights = grid_weights(rows, cols);
  return quantize_matrix({weights.data_ptr<float>(), rows, cols}, parse_scheme(scheme), {});
}

at::Tensor dequantized_weights(const QuantizedMatrix& matrix) {
  at::Tensor weights = at::empty({matrix.rows, matrix.cols}, at::kFloat);
  matrix.dequantize(weights.data_ptr<float>());
  return weights;
}

at::Tensor opened_weights(const OpenedMatrix& opened) {
  std::vector<at::Tensor> parts;
  for (const StoredGrid& part : opened.parts) parts.push_back(weights_of(part, part.floats));
  return join_rows(opened, parts);
}

void expect_same_affine(const AffineMatrix& a, const AffineMatrix& b) {
  EXPECT_EQ(a.codes, b.codes);
  EXPECT_EQ(a.scales, b.scales);
  EXPECT_EQ(a.zeros, b.zeros);
  EXPECT_EQ(a.second_level.scale_codes, b.second_level.scale_codes);
  EXPECT_EQ(a.second_level.scale_minimums, b.second_level.scale_minimums);
  EXPECT_EQ(a.second_level.scale_steps, b.second_level.scale_steps);
  EXPECT_EQ(a.second_level.zero_codes, b.second_level.zero_codes);
}

class StoredGridTest : public testing::TestWithParam<const char*> {};

TEST_P(StoredGridTest, HoldsTheStoredWeightsAndClosesToTheSameBytes) {
  for (const int64_t cols : {512, 192, 160}) {  // divided by 256, by 64, by 32 alone
    const QuantizedMatrix matrix = quantized(GetParam(), 10, cols);
    const OpenedMatrix opened = open_grid(matrix);
    EXPECT_TRUE(at::equal(opened_weights(opened), dequantized_weights(matrix))) << cols;
    QuantizedMatrix closed = matrix;
    close_grid(opened, closed);
    EXPECT_EQ(closed.blocks, matrix.blocks) << cols;
    expect_same_affine(closed.affine, matrix.affine);
    expect_same_affine(closed.mixed.low, matrix.mixed.low);
    expect_same_affine(closed.mixed.high, matrix.mixed.high);
  }
}

// New codes and floats are stored: what is dequantized afterwards is what the grid said before.
TEST_P(StoredGridTest, StoresNewCodesAndFloats) {
  QuantizedMatrix matrix = quantized(GetParam());
  const at::Tensor before = dequantized_weights(matrix);
  OpenedMatrix opened = open_grid(matrix);
  for (StoredGrid& part : opened.parts) {
    part.codes = (part.largest_code - part.codes).to(at::kByte);
    GridFloats& floats = part.floats;
    floats.scale = floats.scale * 1.3;
    if (floats.scale_minimum.defined()) floats.scale_minimum = floats.scale_minimum * 1.3;
    if (floats.minimum.defined()) floats.minimum = floats.minimum * 0.7;
    if (part.float_zeros) floats.zero = floats.zero + 0.3;
    floats = as_stored(part, floats);
  }
  const at::Tensor expected = opened_weights(opened);
  close_grid(opened, matrix);
  EXPECT_TRUE(at::equal(dequantized_weights(matrix), expected));
  EXPECT_FALSE(at::equal(expected, before));
}

// The gradient of a weighted sum of the weights by every kind of float equals the difference quotient, which
// is exact up to rounding where the sum is linear.
TEST_P(StoredGridTest, GradientsByFloatsEqualDifferenceQuotients) {
  const at::AutoGradMode with_gradients(true);
  const OpenedMatrix opened = open_grid(quantized(GetParam()));
  for (const StoredGrid& part : opened.parts) {
    const at::Tensor factors = grid_weights(part.layout.rows(), 512) + 0.01;
    const auto sum_of = [&](const GridFloats& floats) {
      return (weights_of(part, floats).to(at::kDouble) * factors).sum();
    };
    for (at::Tensor GridFloats::*member :
         {&GridFloats::scale, &GridFloats::scale_minimum, &GridFloats::zero, &GridFloats::minimum}) {
      GridFloats floats = part.floats;
      if (!(floats.*member).defined() || (member == &GridFloats::zero && !part.float_zeros)) continue;
      floats.*member = (floats.*member).clone().set_requires_grad(true);
      sum_of(floats).backward();
      const at::Tensor gradient = (floats.*member).grad();
      ASSERT_TRUE(gradient.defined());
      for (const int64_t at : {int64_t{0}, gradient.numel() / 2, gradient.numel() - 1}) {
        const at::NoGradGuard no_grad;
        GridFloats above = part.floats, below = part.floats;
        above.*member = (above.*member).clone();
        below.*member = (below.*member).clone();
        const double step = member == &GridFloats::zero ? 0.25 : 0.0625;
        (above.*member)[at][0] += step;
        (below.*member)[at][0] -= step;
        const double quotient = (sum_of(above) - sum_of(below)).item<double>() / (2 * step);
        EXPECT_NEAR(gradient[at][0].item<double>(), quotient, 1e-4 * std::abs(quotient) + 1e-4);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, StoredGridTest,
                         testing::Values("w2g32", "w3g128", "w4g64z", "w4g64s", "w8row", "w3g32m", "w2g64sm",
                                         "w2g64ma0", "w3rowa0", "w2g32+w4@0.3", "w2g64s+w3@0", "w2g64+w3@1",
                                         "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "Q5_0",
                                         "Q5_1", "Q8_0", "IQ4_NL"));

TEST(StoredGrid, FollowsTheGroupsOfScatteredColumns) {
  QuantizedMatrix matrix = quantized("w3g32", 6, 80);
  for (int32_t c = 0; c < 80; ++c) matrix.affine.group_of_column.push_back((c * 7 % 80) / 32);
  const OpenedMatrix opened = open_grid(matrix);
  EXPECT_TRUE(at::equal(opened_weights(opened), dequantized_weights(matrix)));
  QuantizedMatrix closed = matrix;
  close_grid(opened, closed);
  expect_same_affine(closed.affine, matrix.affine);
  matrix.affine.group_of_column[0] = 2;
  EXPECT_NE(error_of([&] { open_grid(matrix); }).find("groups of other sizes"), std::string::npos);
}

// A byte that our encoder does not write.
TEST(StoredGrid, KeepsTheLowestByteOfQ8_0) {
  QuantizedMatrix matrix = quantized("Q8_0", 2, 64);
  matrix.blocks[5] = std::byte{0x80};
  const OpenedMatrix opened = open_grid(matrix);
  EXPECT_TRUE(at::equal(opened_weights(opened), dequantized_weights(matrix)));
  QuantizedMatrix closed = matrix;
  close_grid(opened, closed);
  EXPECT_EQ(closed.blocks, matrix.blocks);
}

TEST(StoredGrid, IsOfTypesWithCodesAlone) {
  for (const char* scheme : {"nf4", "nf4dq", "F16", "BF16", "IQ4_XS", "IQ2_XXS", "IQ3_S"})
    EXPECT_FALSE(has_grid(parse_scheme(scheme), 512)) << scheme;
  EXPECT_TRUE(has_grid(parse_scheme("IQ2_XXS"), 96));  // stored as IQ4_NL
  EXPECT_FALSE(has_grid(parse_scheme("Q4_K"), 40));    // stored as F16
  EXPECT_NE(error_of([&] { open_grid(quantized("IQ3_S")); }).find("IQ3_S has no codes"), std::string::npos);
}

}  // namespace
}  // namespace strata
