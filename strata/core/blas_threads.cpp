#include "strata/core/blas_threads.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <string>

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

const char* best_kernels() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return "SkylakeX";
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "Haswell" : nullptr;
}

bool choose_kernels() {
  constexpr const char* kVariable = "OPENBLAS_CORETYPE";
  const auto chosen = find<char* (*)()>("openblas_get_corename");
  const auto quit = find<void (*)()>("gotoblas_dynamic_quit"),
             init = find<void (*)()>("gotoblas_dynamic_init");
  if (!chosen || !quit || !init || std::getenv(kVariable) != nullptr) return false;
  const char* best = best_kernels();
  if (best == nullptr || std::string(chosen()) != "Prescott") return false;  // what it takes for unknown ones
  setenv(kVariable, best, 1);
  quit();
  init();
  return true;
}

}  // namespace

void choose_blas_kernels() {
  [[maybe_unused]] static const bool once = choose_kernels();
}

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
