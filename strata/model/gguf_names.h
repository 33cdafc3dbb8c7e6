#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/model/architecture.h"
#include "strata/model/model.h"

namespace strata {

// A tensor's name without its ending ".weight" or ".bias", in a checkpoint and in GGUF files.
struct NamePair {
  std::string name, gguf_name;
};

// What all architectures have beside their layers, and how the names of a layer's tensors begin.
NamePair embedding_names(const ModelConfig& config);
// Where every layer has an embedding: those of all side by side, and the projection and norm of what is
// added.
NamePair layer_embedding_names(const ModelConfig& config);
NamePair layer_projection_names(const ModelConfig& config);
NamePair layer_projection_norm_names(const ModelConfig& config);
NamePair final_norm_names(const ModelConfig& config);
NamePair head_names(const ModelConfig& config);
NamePair layer_names(const ModelConfig& config);  // "model.layers." and "blk."

// llama.cpp's name of a tensor of this architecture ("model.layers.3.mlp.down_proj.weight" ->
// "blk.3.ffn_down.weight") and the way back; empty when there is no counterpart.
std::string gguf_name(const ModelConfig& config, const std::string& name);
std::string name_of_gguf(const ModelConfig& config, const std::string& gguf_name);

// The name of a model's tensor in a GGUF file: its own in models that can be sized only.
std::string name_in_gguf(const Model& model, const std::string& tensor);

// The same of a matrix whose model is not known, since architectures agree in the names of matrices; its own
// where none has it.
std::string matrix_name_in_gguf(const std::string& tensor);

// Whether llama.cpp stores some of these rows in its own order: it rotates neighbouring features where
// Hugging Face rotates the two halves of a head.
bool is_permuted(const std::vector<RowPart>& parts);

// The source row of every stored row, and the stored row of every source row. Throws where a part's heads do
// not divide its rows in halves.
std::vector<int64_t> gguf_row_order(const std::vector<RowPart>& parts);
std::vector<int64_t> source_row_order(const std::vector<RowPart>& parts);

}  // namespace strata
