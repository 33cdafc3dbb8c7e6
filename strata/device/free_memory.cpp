#include "strata/device/free_memory.h"

#include <c10/core/DeviceGuard.h>
#include <dlfcn.h>

#include "strata/core/error.h"
#include "strata/core/memory.h"

namespace strata {

uint64_t free_memory(at::Device device) {
  if (device.is_cpu()) return free_memory();
  // LibTorch asks the CUDA runtime that it has loaded, and shows nobody: so it is looked up here.
  const auto ask = reinterpret_cast<int (*)(size_t*, size_t*)>(dlsym(RTLD_DEFAULT, "cudaMemGetInfo"));
  const c10::DeviceGuard guard(device);
  size_t free = 0, all = 0;
  if (ask == nullptr || ask(&free, &all) != 0)
    fail("the CUDA runtime does not say how much memory of {} is free; give --memory", device.str());
  return free;
}

}  // namespace strata
