#pragma once

#include <ATen/ATen.h>

#include <string>

namespace strata {

// "cpu", "cuda", "cuda:1"; throws when there is no such device.
at::Device parse_device(const std::string& name);

// Gives LibTorch and its BLAS the thread count of core/threads.h, and the BLAS the kernels of this processor.
// Decoders do it by themselves.
void use_threads();

}  // namespace strata
