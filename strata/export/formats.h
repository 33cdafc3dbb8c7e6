#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "strata/export/export.h"

namespace strata {

// One kind of output.
struct ExportFormat {
  std::string name;                               // as in --format
  std::string ending;                             // ".gguf"; empty for a directory
  std::string what;                               // one line for the help
  bool holds_affine = false, holds_gguf = false;  // scheme kinds it can store
  std::string default_schemes;                    // the menu when none is asked for
  std::function<ExportResult(const Model&, const ExportPlan&, const std::filesystem::path&)> write;
  // Bytes of the model as the plan stores it, known without writing: those of the file for gguf; for hf,
  // whose files hold the dequantized weights, those of the packed weights.
  std::function<uint64_t(const Model&, const ExportPlan&)> file_size;
};

// All formats; a new one is a line here.
const std::vector<ExportFormat>& export_formats();

// The format called `name` (--format) or, when that is empty, the one that the target's ending asks for; a
// path without an ending, or that ends with "/" or is a directory, is a Hugging Face directory. Throws
// UsageError.
const ExportFormat& format_for(const std::filesystem::path& target, const std::string& name = "");

// Throws UsageError if the format cannot store the scheme.
void require_storable(const ExportFormat& format, const Scheme& scheme);

}  // namespace strata
