#include "strata/device/device.h"

#include <ATen/Parallel.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>

#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/ranks.h"
#include "strata/core/threads.h"

namespace strata {

void use_threads() {
  choose_blas_kernels();
  at::set_num_threads(thread_count());
  set_blas_threads(thread_count());
}

at::Device parse_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  const bool numbered =
      name.size() >= 6 && name.size() <= 8 && name.compare(0, 5, "cuda:") == 0 &&
      std::all_of(name.begin() + 5, name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (name != "cuda" && !numbered)
    fail_usage("there is no device '{}'; known are cpu, cuda and cuda:N", name);
  if (!c10::impl::hasDeviceGuardImpl(at::kCUDA))
    fail_usage("the device '{}' was asked for, but this LibTorch was built without CUDA; use cpu", name);
  const int count = c10::impl::getDeviceGuardImpl(at::kCUDA)->deviceCount();
  const int own = count > 0 ? launched_rank_of_host() % count : 0;
  const int index = numbered ? std::stoi(name.substr(5)) : own;
  if (index >= count)
    fail_usage("the device '{}' was asked for, but this machine has {} CUDA devices", name, count);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

}  // namespace strata
