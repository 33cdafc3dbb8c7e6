#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace strata {

// What a finished file was found to be.
struct Verification {
  std::vector<std::string> faults;    // a sentence each; none: the file can be trusted as far as was looked
  std::vector<std::string> notes;     // what could not be looked at
  int64_t tensors = 0, matrices = 0;  // read to the end; compared with the reference
  uint64_t bytes = 0;                 // of these tensors
};

// Checks a model that was written: the structure of a GGUF, by a reader of its own (gguf/audit.h); every
// number in it for being finite; its label (general.file_type, and the bits a weight that strata writes)
// against what is stored; and that it opens as a
// model. With a reference, that every matrix is there and as near to it as its scheme lets it be: 32 rows of
// each, whose error may be 4 times that of rounding them to the same scheme, since quantizers that look at
// text trade it for a smaller error of what comes out. What is stored in floats must be the reference's,
// which the rounded weights of the format `hf` are not. Layers whose norms differ from the reference's have
// been folded with their matrices (AWQ does that), which then cannot be compared.
Verification verify(const std::filesystem::path& path, const std::optional<std::filesystem::path>& reference);

}  // namespace strata
