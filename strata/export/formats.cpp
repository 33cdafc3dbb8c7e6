#include "strata/export/formats.h"

#include "strata/core/error.h"
#include "strata/export/export_plan.h"
#include "strata/export/packed_format.h"

namespace strata {
namespace {

std::string known_formats() {
  std::string text;
  for (const ExportFormat& format : export_formats())
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", format.name,
                        format.ending.empty() ? "a directory" : format.ending);
  return text;
}

ExportFormat gguf() {
  ExportFormat format;
  format.name = "gguf";
  format.ending = ".gguf";
  format.what = "one file for llama.cpp and what builds on it";
  format.default_schemes = "gguf";
  format.tiles_value_heads = true;
  format.embedding = "Q4_K";
  format.head = "Q6_K";
  format.refusal = [](const Scheme& scheme, int64_t, int64_t) {
    return std::string(scheme.kind == Scheme::Kind::Gguf ? "" : "holds types of GGUF files, such as Q4_K");
  };
  format.write = export_gguf;
  format.file_size = gguf_file_size;
  return format;
}

ExportFormat hf() {
  ExportFormat format;
  format.name = "hf";
  format.what = "a Hugging Face directory with the dequantized weights";
  format.default_schemes = "affine";
  format.holds_scattered_groups = true;
  format.refusal = [](const Scheme&, int64_t, int64_t) { return std::string(); };
  format.write = export_hf;
  format.vector_type = written_type;
  format.file_size = stored_size;
  return format;
}

ExportFormat packed(const std::string& name, const PackedFormat& packing) {
  ExportFormat format;
  format.name = name;
  format.holds_scattered_groups = packing.holds_scattered_groups();
  format.refusal = [&packing](const Scheme& scheme, int64_t rows, int64_t cols) {
    return packing.refusal(scheme, rows, cols);
  };
  format.write = [&packing](const Model& model, const ExportPlan& plan, const std::filesystem::path& target) {
    return export_packed(packing, model, plan, target);
  };
  if (packing.stores_otherwise())
    format.store = [&packing](QuantizedMatrix& matrix) { packing.store(matrix); };
  format.vector_type = written_type;
  format.file_size = [&packing](const Model& model, const ExportPlan& plan) {
    return packed_size(packing, model, plan);
  };
  return format;
}

ExportFormat compressed_tensors() {
  ExportFormat format = packed("compressed-tensors", compressed_tensors_format());
  format.what = "a directory for vLLM, SGLang and transformers (pack-quantized)";
  format.default_schemes = "affine-z";
  format.packs_embedding = false;
  format.ties = Ties::Fused;
  return format;
}

ExportFormat gptq(const std::string& name, bool version_2) {
  ExportFormat format = packed(name, gptq_format(version_2));
  format.what = version_2 ? "the same with unshifted zero points, for GPTQModel"
                          : "a directory for GPTQModel, SGLang and vLLM";
  // GPTQModel takes zero points from version 1 only where an early release of its own wrote them.
  format.default_schemes = version_2 ? "gptq" : "gptq-s";
  format.packs_embedding = false;
  format.ties = Ties::Fused;
  return format;
}

ExportFormat mlx() {
  ExportFormat format = packed("mlx", mlx_format());
  format.what = "a directory for mlx-lm and LM Studio";
  format.default_schemes = "affine";
  return format;
}

ExportFormat own() {
  ExportFormat format = packed("strata", strata_format());
  format.what = "strata's own directory: affine groups of every kind, and rows with more bits";
  format.default_schemes = "affine";
  return format;
}

}  // namespace

const std::vector<ExportFormat>& export_formats() {
  static const std::vector<ExportFormat> formats = {
      gguf(), hf(), compressed_tensors(), gptq("gptq", false), gptq("gptq_v2", true), mlx(), own()};
  return formats;
}

const ExportFormat& format_for(const std::filesystem::path& target, const std::string& name) {
  const bool is_directory = std::filesystem::is_directory(target);
  if (name.empty() && is_directory && target.extension() == ".gguf")
    fail("cannot write {}: it is a directory", target.string());
  const std::string ending = is_directory ? "" : target.extension().string();
  for (const ExportFormat& format : export_formats())
    if (name.empty() ? format.ending == ending : format.name == name) return format;
  if (!name.empty()) fail_usage("unknown format '{}'; known are {}", name, known_formats());
  fail_usage("{}: no format ends in '{}'; choose one with --format: {}", target.string(), ending,
             known_formats());
}

void require_storable(const ExportFormat& format, const Scheme& scheme) {
  constexpr int64_t kAnySize = 4096;  // which all groups divide
  const std::string refusal = format.refusal(scheme, kAnySize, kAnySize);
  if (refusal.empty()) return;
  fail_usage("{} cannot store the scheme {}: it {}; its own menu is '{}' (--schemes)", format.name,
             scheme.name(), refusal, format.default_schemes);
}

}  // namespace strata
