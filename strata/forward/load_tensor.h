#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "strata/checkpoint/checkpoint.h"

namespace strata {

// Reads one tensor to a device as float or bfloat16, in the checkpoint's shape.
at::Tensor load_tensor(const Checkpoint& checkpoint, const std::string& name, at::Device device,
                       at::ScalarType dtype);

// Reads rows [first, first + count) of a matrix: [count, cols].
at::Tensor load_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, int64_t first, int64_t count,
                     at::Device device, at::ScalarType dtype);

// Reads a row of a matrix for every id [B, T]: [B, T, cols].
at::Tensor gather_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, const at::Tensor& ids,
                       at::Device device, at::ScalarType dtype);

}  // namespace strata
