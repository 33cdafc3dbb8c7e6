#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "strata/checkpoint/checkpoint.h"
#include "strata/model/architecture.h"
#include "strata/model/config.h"
#include "strata/tokenizer/tokenizer.h"

namespace strata {

// One weight matrix of a decoder layer.
struct Module {
  int layer = 0;
  Role role = Role::Other;
  std::string name;            // inside the layer: "self_attn.q_proj"
  std::string tensor;          // in the checkpoint: "model.layers.0.self_attn.q_proj.weight"
  int64_t rows = 0, cols = 0;  // of a stack those of all its matrices, one below the other
  int64_t experts = 0;         // matrices of a stack; otherwise 0
  // Its rows by what they do, of a stack those of one matrix; empty in models that can be sized only.
  std::vector<RowPart> parts;
  // The first module of the layer that reads what this one reads; empty in models that can be sized only.
  std::string input;

  int64_t params() const { return rows * cols; }
  int64_t matrices() const { return experts > 0 ? experts : 1; }
  int64_t rows_of_matrix() const { return rows / matrices(); }
};

// A decoder model opened for reading: nothing but headers is in memory.
struct Model {
  std::filesystem::path path;
  ModelConfig config;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::vector<Module> modules;  // layer by layer
  std::string embedding = "model.embed_tokens.weight";
  std::string layer_embedding;  // the table of the embeddings that every layer has; empty: none has
  std::string final_norm = "model.norm.weight";
  std::string head = "lm_head.weight";  // equals `embedding` when tied

  // False where the forward pass is not known here: the matrices (experts stacked as the rows of one in a
  // GGUF) can be scored without data, quantized and exported, under the names that they have in the file.
  bool runnable = true;
  bool fused_experts = false;  // a directory has, or gets, stacks as LayerTensor::fused_in says
  bool experts_apart = false;  // modules are the matrices of single experts (split_experts.h), not stacks
  std::string
      refusal;  // why not, as the end of a sentence: "the architecture 'x' is known by its sizes only"

  // Of the model's directory; throws when there is none or it does not fit the vocabulary.
  std::function<Vocabulary()> vocabulary;

  // Modules of a layer, in the order of its tensors.
  std::vector<const Module*> layer_modules(int layer) const;

  // By its name inside the layer, and the one that does this alone; throw where the layer has none.
  const Module& module(int layer, std::string_view name) const;
  const Module& module(int layer, Role role) const;

  // The rows that do this; null where the layer has none.
  struct Rows {
    const Module* module;
    int64_t first, count;
  };
  std::optional<Rows> rows_of(int layer, Role role) const;
  std::optional<Rows> rows_of(int layer, Role role, const std::vector<std::string>& names) const;  // in these

  std::string final_norm_bias() const { return bias_of(final_norm); }
  static std::string bias_of(const std::string& weight);  // "model.norm.weight" -> "model.norm.bias"

  std::string layer_prefix() const;                                  // "model.layers."
  std::string layer_tensor(int layer, std::string_view name) const;  // "model.layers.<layer>.<name>"
};

// Throws where the model can be sized but not run; `what` cannot be done then.
void require_runnable(const Model& model, const std::string& what);

// Opens a Hugging Face directory (or a .safetensors beside its config.json, or a .gguf), and checks every
// tensor's presence and shape against the config. Weights quantized as compressed-tensors, GPTQ or MLX are
// dequantized as they are read.
Model open_model(const std::filesystem::path& path);

}  // namespace strata
