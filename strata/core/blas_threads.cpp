#include "strata/core/blas_threads.h"

#include <dlfcn.h>

#include <atomic>

namespace strata {
namespace {

// OpenBLAS comes in as the system's choice of libblas, so its own functions are looked up in what was loaded.
template <class Function>
Function find(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

void set_threads(int count) {
  static const auto set = find<void (*)(int)>("openblas_set_num_threads");
  if (set) set(count);
}

int threads() {
  static const auto get = find<int (*)()>("openblas_get_num_threads");
  return get ? get() : 0;
}

std::atomic<int> scopes{0};

}  // namespace

void set_blas_threads(int count) {
  if (scopes == 0) set_threads(count);
}

BlasThreads::BlasThreads(int count) : before_(threads()) {
  ++scopes;
  if (before_ > 0) set_threads(count);
}

BlasThreads::~BlasThreads() {
  if (before_ > 0) set_threads(before_);
  --scopes;
}

}  // namespace strata
