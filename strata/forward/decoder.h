#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include "strata/forward/ends.h"
#include "strata/forward/layer.h"
#include "strata/forward/runtime_rounding.h"
#include "strata/model/model.h"

namespace strata {

struct DecoderOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // or at::kBFloat16
  bool resident = true;               // false: a layer's weights are loaded when it runs and dropped after
  RuntimeRounding rounding = RuntimeRounding::None;  // other: the model is a GGUF, in float32
};

// Sees activations as the layers run: `what` is "self_attn.q_proj" (the input of that matrix) or "layer" (its
// output), for the whole batch.
using Observer = std::function<void(int layer, std::string_view what, const at::Tensor& value)>;

// The forward pass, layer by layer. Weights come from the model's checkpoint unless replaced. The model must
// outlive its decoder.
class Decoder {
 public:
  Decoder(const Model& model, DecoderOptions options);

  // The stream that goes through the layers is [B, T, d]: hidden states, and what is carried (stream.h).
  at::Tensor embed(const at::Tensor& ids);                // [B, T] int64 -> [B, T, d]
  at::Tensor layer(int index, const at::Tensor& hidden);  // [B, T, d] -> [B, T, d]
  at::Tensor logits(const at::Tensor& hidden);            // final norm and head: [B, T, d] -> [B, T, V] float
  at::Tensor forward(const at::Tensor& ids);              // all of it

  // Uses `weight` in the place of a checkpoint tensor, until restored. Throws when the shape differs.
  void replace(const std::string& tensor, at::Tensor weight);
  void restore(const std::string& tensor);

  // Changes the rows [B, T, layers * size] of the embeddings for every layer as they are read, until
  // restored.
  void change_layer_embedding(std::function<void(at::Tensor& rows)> change);
  void restore_all();

  // Keeps a layer's weights loaded between runs where the decoder is not resident, until they are dropped.
  void hold_layer(int index);
  void drop_layer(int index);

  // What layer() runs with for sequences of `length`, for those who run a layer in their own way.
  LayerRun layer_run(int index, int64_t length);
  at::Tensor weight(const std::string& tensor);           // as replaced, or of the checkpoint
  at::Tensor final_normed(const at::Tensor& hidden);      // what the head reads
  at::Tensor embedding_rows(const at::Tensor& ids);       // as stored, [B, T, hidden_size]
  LayerEmbedding layer_embedding(const at::Tensor& ids);  // of these tokens

  // Calls `run` for sequences from first to end until all have been through: on a CPU one at a time, so that
  // what it computes does not depend on how many there are, in threads where there are enough; on a GPU
  // several at once.
  using RunSequences = std::function<void(int64_t first, int64_t end)>;
  void for_sequences(int64_t batch, int64_t length, const RunSequences& run) const;

  void observe(Observer observer) { observer_ = std::move(observer); }
  const Model& model() const { return model_; }
  const DecoderOptions& options() const { return options_; }

 private:
  LayerWeights layer_weights(int index);
  Attention attention() const;
  at::Tensor rounded_input(const std::string& tensor, const at::Tensor& input) const;
  at::Tensor rows_of(const std::string& tensor, const at::Tensor& ids, bool whole);
  at::Tensor weight_rows(const std::string& tensor, int64_t first, int64_t count);
  bool in_memory(const std::string& tensor) const;
  int64_t sequences_per_piece(int64_t length) const;

  // What a piece of a batch showed: matrices and their inputs, in order.
  using Seen = std::vector<std::pair<std::string, at::Tensor>>;
  void show(int index, std::map<int64_t, Seen>& seen, const at::Tensor& output);

  const Model& model_;
  DecoderOptions options_;
  std::unordered_map<std::string, at::Tensor> loaded_, replaced_;
  std::function<void(at::Tensor& rows)> change_rows_;  // of the embeddings for every layer
  RopeTables rope_tables_;
  int64_t widest_activation_;
  Observer observer_;
};

}  // namespace strata
