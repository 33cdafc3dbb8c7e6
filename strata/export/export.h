#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "strata/model/model.h"
#include "strata/quantization/quantizer.h"

namespace strata {

// What to write: a scheme for every tensor named here; others are kept (embedding and head as their options
// say, norms and biases in full).
struct ExportPlan {
  std::map<std::string, Scheme> schemes;  // checkpoint tensor name -> scheme
  Scheme embedding, head;                 // GGUF type, or F16/BF16/F32 to keep; head unused when tied
  QuantizerOptions quantizer;
};

struct ExportResult {
  uint64_t file_bytes = 0;   // of everything written
  uint64_t weight_bits = 0;  // of the planned matrices
  double squared_error = 0;  // summed over the planned matrices
};

// A GGUF file for llama.cpp: complete metadata, tokenizer, q/k rows permuted where the architecture needs it.
ExportResult export_gguf(const Model& model, const ExportPlan& plan, const std::filesystem::path& target);

// Size of that file, to the byte, without writing it.
uint64_t gguf_file_size(const Model& model, const ExportPlan& plan);

// A Hugging Face directory with the dequantized weights in the checkpoint's own type, which loads anywhere.
ExportResult export_hf(const Model& model, const ExportPlan& plan, const std::filesystem::path& target);

}  // namespace strata
