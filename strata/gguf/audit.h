#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace strata {

// What is wrong with the structure of a GGUF file, a sentence a fault: counts, types, names, shapes, offsets,
// gaps between tensors, bytes that are missing or left over. It reads the header by itself, so that it checks
// what GgufFile reads too, and goes on behind a fault as far as it can; where none is found, GgufFile must
// see the same tensors in the same places. Of a model in several files each is looked at.
std::vector<std::string> gguf_faults(const std::filesystem::path& path);

}  // namespace strata
