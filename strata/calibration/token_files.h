#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace strata {

// Token ids of a .npy file (one or two dimensions, any integer type, C order): one sequence, or one a row.
std::vector<std::vector<int64_t>> read_npy_ids(const std::filesystem::path& path);

// The same of a .safetensors file: its tensor "input_ids", or the only tensor it has.
std::vector<std::vector<int64_t>> read_safetensors_ids(const std::filesystem::path& path);

}  // namespace strata
