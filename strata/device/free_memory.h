#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace strata {

// Bytes that are free on a device: on a CPU those of core/memory.h.
uint64_t free_memory(at::Device device);

}  // namespace strata
