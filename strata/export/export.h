#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "strata/export/label.h"
#include "strata/model/model.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// What to write: a scheme for every matrix named here; others are kept (embedding and head as their options
// say, norms and biases in full).
struct ExportPlan {
  std::map<std::string, Scheme> schemes;  // checkpoint tensor name -> scheme
  // A scheme the format holds. F16, BF16 and F32 keep the values: a GGUF stores them in that type, hf in the
  // checkpoint's own. The head's is unused when it is tied.
  Scheme embedding, head;
  std::optional<Scheme> layer_embedding;  // of the table of embeddings for every layer; none: the embedding's
  QuantizerOptions quantizer;  // without importance and impacts, which differ from matrix to matrix
  // Importance of the inputs of a matrix, by tensor, one a column: weighs the errors of GGUF types.
  std::map<std::string, std::vector<float>> importance;
  // Impact of the rows of a matrix, by tensor: which rows have more bits in schemes that mix rows.
  RowImpacts row_impacts;
  // Quantizes the matrices in `schemes` where it is set; embedding and head, unless it makes these too, are
  // left to `quantizer`.
  std::shared_ptr<CalibratedQuantizer> calibrated;
  Label label;
  uint64_t shard_bytes = 0;  // largest file; 0: one GGUF, 5 GB for safetensors
};

struct ExportResult {
  std::filesystem::path path;  // what to open: the target, or the first of a GGUF's files
  uint64_t file_bytes = 0;     // of everything written
  uint64_t weight_bits = 0;    // of the planned matrices
  double squared_error = 0;    // summed over the planned matrices
};

// A GGUF file for llama.cpp: complete metadata, tokenizer, q/k rows permuted where the architecture needs it.
// A GGUF as input keeps its keys, and its blocks where the plan asks for the type they have. Throws if the
// plan names other tensors than the model's matrices, or a scheme that is no GGUF type; holds a few megabytes
// of rows at a time.
ExportResult export_gguf(const Model& model, const ExportPlan& plan, const std::filesystem::path& target);

// Size of that file, to the byte, without writing it.
uint64_t gguf_file_size(const Model& model, const ExportPlan& plan);

// A Hugging Face directory with the dequantized weights in the checkpoint's own type, which loads anywhere.
ExportResult export_hf(const Model& model, const ExportPlan& plan, const std::filesystem::path& target);

// Bytes of the model's weights as the plan stores them: planned matrices, embedding and head in their
// schemes, the rest in the checkpoint's own types.
uint64_t stored_size(const Model& model, const ExportPlan& plan);

}  // namespace strata
