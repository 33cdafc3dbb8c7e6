#include "strata/device/products.h"

#include <gtest/gtest.h>

#include "strata/core/threads.h"
#include "strata/device/device.h"

namespace strata {
namespace {

// More columns than one piece, and a last piece that is not whole.
TEST(Products, AreThoseOfLibTorchAndTheSameForEveryNumberOfThreads) {
  at::manual_seed(5);
  const at::Tensor a = at::randn({70, 90}), b = at::randn({90, 1300}), start = at::randn({70, 1300});
  const at::Tensor expected = at::mm(a.to(at::kDouble), b.to(at::kDouble));
  at::Tensor first, first_sum;
  for (const int threads : {1, 2, 3, 5}) {
    set_thread_count(threads);
    use_threads();
    const at::Tensor found = product(a, b);
    at::Tensor sum = start.clone();
    add_product(sum, a, b);
    EXPECT_LT((found - expected).abs().max().item<double>(), 1e-4);
    EXPECT_LT((sum - start - expected).abs().max().item<double>(), 1e-4);
    if (!first.defined()) {
      first = found;
      first_sum = sum;
    }
    EXPECT_TRUE(at::equal(found, first)) << threads;
    EXPECT_TRUE(at::equal(sum, first_sum)) << threads;
  }
  set_thread_count(0);
  use_threads();
}

TEST(Products, TotalsAreInDoublePrecision) {
  at::Tensor values = at::full({1 << 20}, 0.1f);
  values[0] = 1e9f;
  const double expected = 1e9 + ((1 << 20) - 1) * static_cast<double>(0.1f);
  EXPECT_NEAR(total(values), expected, 1e-3);
}

}  // namespace
}  // namespace strata
