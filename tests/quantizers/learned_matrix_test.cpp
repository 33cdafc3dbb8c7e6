#include "strata/quantizers/learned_matrix.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "strata/core/blas_threads.h"
#include "strata/core/random.h"
#include "strata/quantizers/adam.h"

namespace strata {
namespace {

at::Tensor random_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  Random random(seed);
  at::Tensor matrix = at::empty({rows, cols}, at::kFloat);
  for (int64_t i = 0; i < matrix.numel(); ++i)
    matrix.data_ptr<float>()[i] = static_cast<float>(0.1 * random.normal());
  return matrix;
}

AffineMatrix rounded(const at::Tensor& weights, const AffineScheme& scheme) {
  QuantizerOptions options;
  options.name = "rtn";
  return quantize_affine({weights.data_ptr<float>(), weights.size(0), weights.size(1)}, scheme, options);
}

at::Tensor values_of(const AffineMatrix& matrix) {
  at::Tensor values = at::empty({matrix.rows, matrix.cols}, at::kFloat);
  matrix.dequantize(values.data_ptr<float>());
  return values;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).square().sum(at::kDouble).item<double>();
}

// Every form that affine groups have: real and integer zeros, symmetric, whole rows, partial groups, second
// level, along columns.
class LearnedMatrixTest : public testing::TestWithParam<const char*> {
 protected:
  const BlasThreads one_thread_{1};
  AffineScheme scheme_ = parse_scheme(GetParam()).affine;
  at::Tensor weights_ = random_matrix(24, 80, 3);
};

TEST_P(LearnedMatrixTest, AdaRoundBeginsAtTheWeightsAndRoundsToNearest) {
  const AffineMatrix start = rounded(weights_, scheme_);
  const auto learned = make_adaround(weights_, start);
  const at::Tensor nearest = values_of(start), soft = learned->weights().detach();
  const at::Tensor codes = at::tensor(std::vector<int64_t>(start.codes.begin(), start.codes.end()));
  const at::Tensor inside = codes.gt(0).logical_and(codes.lt((1 << scheme_.bits) - 1)).view_as(weights_);
  EXPECT_LT(((soft - weights_) * inside).abs().max().item<double>(), 1e-5);
  EXPECT_LT(((soft - weights_).abs() - (nearest - weights_).abs()).max().item<double>(), 1e-5);
  const AffineMatrix stored = learned->stored();
  EXPECT_EQ(stored.scales, start.scales);
  EXPECT_EQ(stored.zeros, start.zeros);
  // Ties may go either way.
  EXPECT_NEAR(distance(values_of(stored), weights_), distance(nearest, weights_), 1e-5);
}

// With the inputs' correlations in the loss, rounding to nearest is not the best; what is learned reaches its
// result in codes, not between them.
TEST_P(LearnedMatrixTest, BothLowerAnOutputErrorInWhatTheyStore) {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor inputs = at::mm(random_matrix(256, 8, 4), random_matrix(8, 80, 5)) * 100;
  const auto output_error = [&](const at::Tensor& matrix) {
    return at::mm(inputs, (matrix - weights_).t()).square().sum();
  };
  const AffineMatrix start = rounded(weights_, scheme_);
  const double before = output_error(values_of(start)).item<double>();
  for (const bool round : {true, false}) {
    const auto learned = round ? make_adaround(weights_, start) : make_learnable_clipping(weights_, scheme_);
    Adam adam(learned->parameters(), {0.03});
    constexpr int kSteps = 200;
    for (int step = 0; step < kSteps; ++step) {
      at::Tensor loss = output_error(learned->weights()) / before;
      const at::Tensor regularizer = learned->regularizer(static_cast<double>(step) / kSteps);
      if (regularizer.defined()) loss = loss + 100 * regularizer / weights_.numel();
      loss.backward();
      adam.step();
    }
    const AffineMatrix stored = learned->stored();
    const double after = output_error(values_of(stored)).item<double>();
    EXPECT_LT(after, (round ? 0.5 : 0.95) * before) << (round ? "adaround" : "clipping");
    const double soft = output_error(learned->weights()).item<double>();
    EXPECT_NEAR(soft, after, 0.1 * before) << (round ? "adaround" : "clipping");
    for (const uint8_t code : stored.codes) EXPECT_LT(code, 1 << scheme_.bits);
  }
}

TEST_P(LearnedMatrixTest, ClippingStoresWhatTheFormatHolds) {
  const auto learned = make_learnable_clipping(weights_, scheme_);
  const AffineMatrix stored = learned->stored(), start = rounded(weights_, scheme_);
  ASSERT_EQ(stored.scales.size(), start.scales.size());
  ASSERT_EQ(stored.zeros.size(), start.zeros.size());
  for (size_t g = 0; g < stored.scales.size(); ++g) {
    if (scheme_.scales == ScaleStorage::Half) {
      EXPECT_EQ(at::tensor(stored.scales[g]).to(at::kHalf).to(at::kFloat).item<float>(), stored.scales[g]);
      EXPECT_EQ(at::tensor(stored.zeros[g]).to(at::kHalf).to(at::kFloat).item<float>(), stored.zeros[g]);
    }
    if (scheme_.integer_zero || scheme_.symmetric) {
      EXPECT_EQ(stored.zeros[g], std::round(stored.zeros[g]));
    }
  }
  EXPECT_EQ(stored.second_level.scale_codes.size(), start.second_level.scale_codes.size());
  EXPECT_EQ(stored.second_level.zero_codes.size(), start.second_level.zero_codes.size());
  // Where it begins is chosen by search: no worse than the whole range.
  EXPECT_LT(distance(values_of(stored), weights_), 1.02 * distance(values_of(start), weights_));
}

INSTANTIATE_TEST_SUITE_P(Schemes, LearnedMatrixTest,
                         testing::Values("w2g32", "w3g32", "w3g32z", "w3g32s", "w3row", "w2g32m", "w3g32a0"),
                         [](const auto& each) { return std::string(each.param); });

TEST(LearnedMatrixEdges, ConstantAndZeroGroupsKeepTheirValues) {
  at::Tensor weights = at::zeros({2, 64}, at::kFloat);
  weights.narrow(0, 1, 1).fill_(0.7);
  const AffineScheme scheme = parse_scheme("w2g32").affine;
  EXPECT_LT(distance(values_of(make_learnable_clipping(weights, scheme)->stored()), weights), 1e-2);
  EXPECT_LT(distance(values_of(make_adaround(weights, rounded(weights, scheme))->stored()), weights), 1e-4);
}

TEST(Adam, FollowsItsDefinition) {
  at::Tensor x = at::tensor({1.0, -2.0}, at::kDouble).set_requires_grad(true);
  const at::AutoGradMode with_gradients(true);
  Adam adam({x}, {0.1});
  double value[2] = {1, -2}, mean[2] = {}, square[2] = {};
  for (int t = 1; t <= 5; ++t) {
    (x * x * x).sum().backward();
    adam.step();
    for (int i = 0; i < 2; ++i) {
      const double gradient = 3 * value[i] * value[i];
      mean[i] = 0.9 * mean[i] + 0.1 * gradient;
      square[i] = 0.999 * square[i] + 0.001 * gradient * gradient;
      value[i] -=
          0.1 * (mean[i] / (1 - std::pow(0.9, t))) / (std::sqrt(square[i] / (1 - std::pow(0.999, t))) + 1e-8);
      EXPECT_NEAR(x[i].item<double>(), value[i], 1e-12);
    }
  }
}

}  // namespace
}  // namespace strata
