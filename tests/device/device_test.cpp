#include "strata/device/device.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace strata {
namespace {

TEST(Device, TakesBlasKernelsThatFitTheProcessor) {
  const bool chosen_by_user = std::getenv("OPENBLAS_CORETYPE") != nullptr;
  const auto name = reinterpret_cast<char* (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_corename"));
  if (name == nullptr || chosen_by_user || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    GTEST_SKIP() << "no OpenBLAS that could choose better";
  use_threads();
  EXPECT_STRNE(name(), "Prescott");
  // The kernels are whole: a product is right.
  const at::Tensor a = at::arange(70 * 90, at::kFloat).remainder(7).view({70, 90});
  const at::Tensor b = at::arange(90 * 50, at::kFloat).remainder(5).view({90, 50});
  EXPECT_TRUE(at::equal(at::mm(a, b), (a.unsqueeze(2) * b.unsqueeze(0)).sum(1)));
}

}  // namespace
}  // namespace strata
