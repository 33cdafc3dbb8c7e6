#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "strata/checkpoint/stacked_checkpoint.h"
#include "strata/model/architecture.h"
#include "strata/model/model.h"

namespace strata {

struct ExpectedTensor {
  std::string name, gguf_name;
  std::vector<int64_t> shape;                // of a convolution [rows, 1, cols]
  std::vector<RowPart> parts;                // of a layer's matrices and their biases
  int64_t experts = 0;                       // of a stack, whose shape is [experts * rows, cols]; otherwise 0
  bool kept = false;                         // LayerTensor::kept
  StoredForm form = StoredForm::Plain;       // of a vector in a Hugging Face checkpoint
  std::vector<int64_t> gguf_shape = {};      // in GGUF files, where it is another
  std::vector<std::string> gguf_parts = {};  // names of its parts in GGUF files, where each stands apart
  MatrixSlice fused_in = {};                 // LayerTensor::fused_in, with the full name; empty: none
  int64_t heads = 0;                         // LayerTensor::heads and gguf_slices, with full names
  std::vector<MatrixSlice> gguf_slices = {};
};

// In which form a checkpoint holds a layer's vector.
StoredForm form_of(const Architecture& architecture, const LayerTensor& tensor);

// Every tensor a model of this config consists of, under Hugging Face's names: embedding, the layers in
// order, final norm, and the head unless it is tied.
std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config);

// The stacks among them, and the tensors of a Hugging Face directory that they consist of.
std::vector<MatrixStack> expert_stacks(const ModelConfig& config);

// Those of them, and of the stacks' biases, that a directory may have as slices of other tensors.
std::vector<SlicedStack> fused_stacks(const ModelConfig& config);

// What GGUF files may have in the place of a tensor, named as there.
std::vector<SlicedStack> gguf_slices(const ExpectedTensor& tensor);

// The same of a model: where it cannot be run, the matrices of its layers, its embedding and its head, as far
// as they are known. Throws for such a GGUF, whose tensors have no names of Hugging Face's.
std::vector<ExpectedTensor> stored_tensors(const Model& model);

// The linear modules of every layer, in the order of its tensors.
std::vector<Module> linear_modules(const ModelConfig& config);

// "mlp.experts.up_proj" and 3 to "mlp.experts.3.up_proj", the name of an expert's own matrix.
std::string expert_name(std::string_view stack, int64_t expert);

}  // namespace strata
