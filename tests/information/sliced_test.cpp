#include "strata/information/sliced.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/information/information_loss.h"

namespace strata {
namespace {

at::Tensor gaussian(int64_t n, int64_t features, uint64_t seed) {
  at::Tensor tensor = at::empty({n, features}, at::kFloat);
  Random random(seed);
  for (int64_t i = 0; i < tensor.numel(); ++i)
    tensor.data_ptr<float>()[i] = static_cast<float>(random.normal());
  return tensor;
}

// V = rho U + sqrt(1 - rho^2) noise in two dimensions: along theta and phi the correlation is rho cos(angle),
// so that the sliced information is the mean of -ln(1 - rho^2 cos^2 a) / 2 over angles, -ln((1 + sqrt(1 -
// rho^2)) / 2).
TEST(Sliced, CorrelatedGaussians) {
  const double rho = 0.95;
  const at::Tensor u = gaussian(1500, 2, 1);
  const at::Tensor v = u * rho + gaussian(1500, 2, 2) * std::sqrt(1 - rho * rho);
  const at::Tensor theta = random_directions(2, 200, 3), phi = random_directions(2, 200, 4);
  EXPECT_NEAR(sliced_information(project(u, theta), project(v, phi)),
              -std::log((1 + std::sqrt(1 - rho * rho)) / 2), 0.06);
  EXPECT_LT(sliced_information(project(u, theta), project(gaussian(1500, 2, 9), phi)), 0.02);
}

TEST(Sliced, LabelsAlongOneOfManyFeatures) {
  at::Tensor u = gaussian(1000, 1, 5);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < 1000; ++i) {
    labels.push_back(i % 2);
    u.data_ptr<float>()[i] += i % 2 == 0 ? -6.0f : 6.0f;
  }
  // One feature: every direction is that one, up to its sign. Labels are told apart fully: ln 2.
  const at::Tensor directions = random_directions(1, 8, 6);
  EXPECT_NEAR(sliced_information(project(u, directions), labels), std::log(2.0), 0.03);
}

TEST(Sliced, DirectionsHaveUnitLengthAndDependOnTheSeedOnly) {
  const at::Tensor a = random_directions(17, 5, 42);
  EXPECT_TRUE(at::allclose(a.norm(2, {0}), at::ones({5})));
  EXPECT_TRUE(at::equal(a, random_directions(17, 5, 42)));
  EXPECT_FALSE(at::equal(a, random_directions(17, 5, 43)));
}

TEST(Sliced, IsTheSameForAnyNumberOfThreads) {
  const at::Tensor u = project(gaussian(200, 6, 1), random_directions(6, 32, 1));
  const at::Tensor v = project(gaussian(200, 6, 2), random_directions(6, 32, 2));
  set_thread_count(1);
  const double alone = sliced_information(u, v);
  set_thread_count(4);
  EXPECT_EQ(sliced_information(u, v), alone);
  set_thread_count(0);
}

TEST(InformationLoss, IsTheRelativeMeanChangeOverObserversThatWereRead) {
  const double unread = std::nan("");
  EXPECT_DOUBLE_EQ(information_loss({1, 2, 4}, {unread, 1.5, 4.25}, 5, true), (0.5 + 0.25) / 6 / 5);
  EXPECT_DOUBLE_EQ(information_loss({1, 2, 4}, {unread, 1.5, 4.25}, 5, false), (0.5 + 0.25) / 6);
  EXPECT_EQ(information_loss({0, 0}, {1, 1}, 2, true), 0);
}

}  // namespace
}  // namespace strata
