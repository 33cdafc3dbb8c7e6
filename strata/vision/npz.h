#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <string>

namespace strata::vision {

// The arrays of a NumPy .npz file by their names, as read_npy reads each. Throws Error naming the file for
// what is truncated, damaged, or compressed (numpy.savez does not compress).
std::map<std::string, at::Tensor> read_npz(const std::filesystem::path& path);

}  // namespace strata::vision
