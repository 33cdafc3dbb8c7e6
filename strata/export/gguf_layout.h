#pragma once

#include <memory>
#include <string>
#include <vector>

#include "strata/export/export.h"
#include "strata/gguf/file.h"

namespace strata {

// Where one tensor of a GGUF file comes from.
struct GgufSource {
  std::string tensor;         // in the checkpoint; empty when the values are computed or copied
  std::vector<int64_t> rows;  // the source row of every stored one where llama.cpp orders them its own way,
                              // or has the parts of a matrix apart
  bool planned = false;       // counts for the result's error and bits
  std::vector<float> values;  // a computed tensor, in full
  const GgufTensor* copied = nullptr;  // blocks of the input GGUF that are taken as they stand
};

// A GGUF file before its data: keys, tensors and the source of each tensor.
struct GgufLayout {
  std::vector<GgufKey> keys;
  std::vector<GgufTensor> tensors;
  std::vector<GgufSource> sources;               // one a tensor
  std::shared_ptr<GgufFile> input;               // when the model is a GGUF itself
  std::shared_ptr<const Checkpoint> checkpoint;  // that has the tensors of the sources
};

// Reads headers and the tokenizer only. Throws if the plan cannot be a GGUF file of this model.
GgufLayout gguf_layout(const Model& model, const ExportPlan& plan);

}  // namespace strata
