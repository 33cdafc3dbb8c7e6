#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace strata {

struct KlOptions {
  int64_t tokens = 2048;              // of the calibration's, in whole blocks
  at::ScalarType dtype = at::kFloat;  // or at::kBFloat16: faster on a GPU, with a floor of noise
};

}  // namespace strata
