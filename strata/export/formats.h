#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "strata/allocation/allocator.h"
#include "strata/core/dtype.h"
#include "strata/export/export.h"

namespace strata {

// One kind of output, and what it can hold.
struct ExportFormat {
  std::string name;             // as in --format
  std::string ending;           // ".gguf"; empty for a directory
  std::string what;             // one line for the help
  std::string default_schemes;  // the menu when none is asked for
  // Schemes of embedding and head when nothing is asked for; a floating type keeps them as they are.
  std::string embedding = "F32", head = "F32";
  bool holds_scattered_groups = false;  // AffineMatrix::group_of_column, from act-order
  bool packs_embedding = true;          // false: embedding and head are always kept
  bool tiles_value_heads = false;       // the order in which it has value heads (model/value_heads.h)
  Ties ties = Ties::None;               // modules whose schemes must agree, since runtimes fuse them
  // Why a [rows, cols] matrix cannot be stored in a scheme, as the end of a sentence; empty when it can.
  std::function<std::string(const Scheme&, int64_t rows, int64_t cols)> refusal;
  std::function<ExportResult(const Model&, const ExportPlan&, const std::filesystem::path&)> write;
  // What the file changes in a quantized matrix, which it stores with less precision than its scheme says;
  // null: nothing.
  std::function<void(QuantizedMatrix&)> store;
  // The type in which norms and biases of the checkpoint are stored.
  std::function<DType(const TensorInfo&)> vector_type = [](const TensorInfo&) { return DType::F32; };
  // Bytes of the model as the plan stores it, known without writing: those of the file or of all safetensors
  // files; for hf, whose files hold the dequantized weights, those of the packed weights.
  std::function<uint64_t(const Model&, const ExportPlan&)> file_size;
};

// All formats; a new one is a line here.
const std::vector<ExportFormat>& export_formats();

// The format called `name` (--format) or, when that is empty, the one that the target's ending asks for; a
// path without an ending, or that ends with "/" or is a directory, is a Hugging Face directory. Throws
// UsageError.
const ExportFormat& format_for(const std::filesystem::path& target, const std::string& name = "");

// Throws UsageError if the format cannot store the scheme, whatever the matrix.
void require_storable(const ExportFormat& format, const Scheme& scheme);

}  // namespace strata
