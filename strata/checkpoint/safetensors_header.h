#pragma once

#include <optional>
#include <vector>

#include "strata/checkpoint/checkpoint.h"
#include "strata/core/file.h"

namespace strata {

// Where one tensor lies in a safetensors file.
struct SafetensorsEntry {
  TensorInfo info;
  std::optional<DType> type;  // none for types that no strata code reads, such as F8_E4M3
  uint64_t begin = 0;         // from the start of the file
};

// Reads and checks the header of one safetensors file: every tensor lies within the file, no two overlap,
// none leaves a gap, byte counts are those of the shapes, and the file ends where the last tensor does.
// Entries come in the order of their data.
std::vector<SafetensorsEntry> read_safetensors_header(const MappedFile& file);

}  // namespace strata
