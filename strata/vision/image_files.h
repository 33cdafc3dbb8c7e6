#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace strata::vision {

// Decodes a JPEG or PNG file to [3, H, W] uint8 RGB; grey becomes RGB, transparency is ignored. Throws naming
// the file when it does not decode or is larger than 64 million pixels.
at::Tensor decode_image(const std::filesystem::path& path);

bool is_image_file(const std::filesystem::path& path);  // by its ending

// An array of a NumPy file, version 1 to 3: uint8, int32, int64, float32 or float64 (as float), C order.
at::Tensor read_npy(const std::filesystem::path& path);

// The same of its bytes; `where` names them in messages.
at::Tensor parse_npy(std::string_view bytes, const std::string& where);

}  // namespace strata::vision
