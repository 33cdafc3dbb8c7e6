#include "strata/export/formats.h"

#include "strata/core/error.h"

namespace strata {
namespace {

std::string known_formats() {
  std::string text;
  for (const ExportFormat& format : export_formats())
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", format.name,
                        format.ending.empty() ? "a directory" : format.ending);
  return text;
}

}  // namespace

const std::vector<ExportFormat>& export_formats() {
  static const std::vector<ExportFormat> formats = {
      {"gguf", ".gguf", "one file for llama.cpp and what builds on it", false, true, "gguf", export_gguf,
       gguf_file_size},
      {"hf", "", "a Hugging Face directory with the dequantized weights", true, true, "affine", export_hf,
       stored_size},
  };
  return formats;
}

const ExportFormat& format_for(const std::filesystem::path& target, const std::string& name) {
  const std::string ending = std::filesystem::is_directory(target) ? "" : target.extension().string();
  for (const ExportFormat& format : export_formats())
    if (name.empty() ? format.ending == ending : format.name == name) return format;
  if (!name.empty()) fail_usage("unknown format '{}'; known are {}", name, known_formats());
  fail_usage("{}: no format ends in '{}'; choose one with --format: {}", target.string(), ending,
             known_formats());
}

void require_storable(const ExportFormat& format, const Scheme& scheme) {
  if (scheme.kind == Scheme::Kind::Affine ? format.holds_affine : format.holds_gguf) return;
  fail_usage("{} cannot store the scheme {}; use the menu '{}' (--schemes) or another format", format.name,
             scheme.name(), format.default_schemes);
}

}  // namespace strata
