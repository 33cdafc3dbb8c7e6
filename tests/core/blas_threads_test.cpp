#include "strata/core/blas_threads.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace strata {
namespace {

TEST(BlasThreads, HoldForAScopeAndAreRestored) {
  void* library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) GTEST_SKIP() << "no OpenBLAS";
  const auto count = reinterpret_cast<int (*)()>(dlsym(library, "openblas_get_num_threads"));
  const int before = count();
  {
    const BlasThreads one(1);
    EXPECT_EQ(count(), 1);
    {
      const BlasThreads two(2);
      EXPECT_EQ(count(), 2);
    }
    set_blas_threads(2);  // the scope's choice stands
    EXPECT_EQ(count(), 1);
  }
  EXPECT_EQ(count(), before);
  set_blas_threads(before + 1);
  EXPECT_EQ(count(), before + 1);
  set_blas_threads(before);
}

}  // namespace
}  // namespace strata
