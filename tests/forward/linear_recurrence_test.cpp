#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "strata/core/threads.h"
#include "strata/forward/linear_recurrence.h"
#include "tests/support/architecture_models.h"

namespace strata {
namespace {

LinearRecurrence random_recurrence(int64_t batch, int64_t heads, int64_t length, bool with_beta) {
  LinearRecurrence random;
  random.q = at::randn({batch, heads, length, 8}) / 3;
  random.k = at::randn({batch, heads, length, 8});
  random.k = random.k / random.k.norm(2, {-1}, true);
  random.v = at::randn({batch, heads, length, 5});
  random.log_decay = -at::rand({batch, heads, length}) / 4;
  if (with_beta) random.beta = at::rand({batch, heads, length});
  return random;
}

// Token by token in double precision, as the recurrence is defined.
at::Tensor by_definition(const LinearRecurrence& r, at::Tensor state) {
  std::vector<at::Tensor> outputs;
  const auto at_token = [](const at::Tensor& values, int64_t t) {
    return values.to(at::kDouble).select(2, t);
  };
  for (int64_t t = 0; t < r.v.size(2); ++t) {
    const at::Tensor k = at_token(r.k, t), v = at_token(r.v, t);
    state = state * at_token(r.log_decay, t).exp().unsqueeze(-1).unsqueeze(-1);
    at::Tensor u = v;
    if (r.beta.defined())
      u = at_token(r.beta, t).unsqueeze(-1) * (v - at::einsum("bhkv,bhk->bhv", {state, k}));
    state = state + at::einsum("bhk,bhv->bhkv", {k, u});
    outputs.push_back(at::einsum("bhkv,bhk->bhv", {state, at_token(r.q, t)}));
  }
  return at::stack(outputs, 2);
}

LinearRecurrence of_tokens(const LinearRecurrence& r, int64_t first, int64_t count) {
  const auto part = [&](const at::Tensor& values) {
    return values.defined() ? values.narrow(2, first, count) : values;
  };
  return {part(r.q), part(r.k), part(r.v), part(r.log_decay), part(r.beta)};
}

// Texts of less than a chunk, of a chunk, and of several.
TEST(LinearRecurrence, IsThatOfTheDefinition) {
  at::manual_seed(1);
  const at::NoGradGuard no_grad;
  for (const bool with_beta : {false, true})
    for (const int64_t length : {1, 5, 64, 150}) {
      const LinearRecurrence random = random_recurrence(2, 3, length, with_beta);
      const at::Tensor expected = by_definition(random, at::zeros({2, 3, 8, 5}, at::kDouble));
      const at::Tensor found = run_recurrence(random, nullptr);
      EXPECT_LT(relative_difference(found.to(at::kDouble), expected), 1e-5) << length << with_beta;
    }
}

TEST(LinearRecurrence, GoesOnBehindItsState) {
  at::manual_seed(2);
  const at::NoGradGuard no_grad;
  for (const bool with_beta : {false, true}) {
    const LinearRecurrence random = random_recurrence(70, 2, 100, with_beta);
    const at::Tensor expected = by_definition(random, at::zeros({70, 2, 8, 5}, at::kDouble));
    at::Tensor state;
    std::vector<at::Tensor> parts;
    for (const auto& [first, count] : {std::pair{0, 1}, {1, 70}, {71, 1}, {72, 28}})
      parts.push_back(run_recurrence(of_tokens(random, first, count), &state));
    EXPECT_LT(relative_difference(at::cat(parts, 2).to(at::kDouble), expected), 1e-5) << with_beta;
  }
}

TEST(LinearRecurrence, HasTheSameBitsWithAnyNumberOfThreadsAndWithGradients) {
  at::manual_seed(3);
  const LinearRecurrence random = random_recurrence(2, 5, 130, true);
  const int threads = thread_count();
  std::vector<at::Tensor> found;
  for (const int count : {1, 2, 3}) {
    const at::NoGradGuard no_grad;
    set_thread_count(count);
    found.push_back(run_recurrence(random, nullptr));
  }
  set_thread_count(threads);
  found.push_back(run_recurrence(random, nullptr));
  for (const at::Tensor& other : found) EXPECT_TRUE(at::equal(other, found.front()));
}

TEST(LinearRecurrence, HasTheGradientsOfFiniteDifferences) {
  at::manual_seed(4);
  const LinearRecurrence random = random_recurrence(1, 2, 70, true);
  const at::Tensor weights = at::randn({1, 2, 70, 5}, at::kDouble);
  const auto loss_of = [&](const LinearRecurrence& r) {
    return (by_definition(r, at::zeros({1, 2, 8, 5}, at::kDouble)) * weights).sum().item<double>();
  };
  for (at::Tensor LinearRecurrence::*member :
       {&LinearRecurrence::q, &LinearRecurrence::k, &LinearRecurrence::v, &LinearRecurrence::log_decay,
        &LinearRecurrence::beta}) {
    LinearRecurrence leaf = random;
    leaf.*member = (random.*member).clone().set_requires_grad(true);
    (run_recurrence(leaf, nullptr) * weights.to(at::kFloat)).sum().backward();
    // Along a random direction.
    const at::Tensor direction = at::randn((random.*member).sizes(), at::kDouble);
    const double found = ((leaf.*member).grad().to(at::kDouble) * direction).sum().item<double>();
    constexpr double kStep = 1e-5;
    const auto moved = [&](double step) {
      LinearRecurrence other = random;
      other.*member = (random.*member).to(at::kDouble) + step * direction;
      return loss_of(other);
    };
    const double expected = (moved(kStep) - moved(-kStep)) / (2 * kStep);
    EXPECT_NEAR(found, expected, 1e-3 * std::abs(expected) + 1e-3);
  }
}

TEST(RepeatedHeads, StandSideBySideOrInTiles) {
  const at::Tensor heads = at::arange(2).view({1, 2, 1, 1});
  const auto listed = [](const at::Tensor& values) {
    const at::Tensor flat = values.contiguous().view({-1});
    return std::vector<int64_t>(flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel());
  };
  EXPECT_EQ(listed(repeat_heads(heads, 6, false)), (std::vector<int64_t>{0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(listed(repeat_heads(heads, 6, true)), (std::vector<int64_t>{0, 1, 0, 1, 0, 1}));
}

}  // namespace
}  // namespace strata
