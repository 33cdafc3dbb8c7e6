#pragma once

#include <ATen/ATen.h>

#include <functional>

#include "strata/model/config.h"

// The two ends of a decoder: what becomes of embedded tokens before the first layer, and of hidden states
// behind the last; and the parts of the stream (stream.h) between them.
namespace strata {

// What the features are made of that every layer reads of an embedding of its own; undefined where none does.
struct LayerEmbedding {
  at::Tensor rows;        // of the tokens, those of all layers side by side, [B, T, layers * size]
  at::Tensor projection;  // [layers * size, hidden_size]
  at::Tensor gains;       // of the norm behind it, [size]
  // What becomes of the projection's input before the product; null where that keeps its values.
  std::function<at::Tensor(const at::Tensor& input)> round_input = nullptr;
};

// Rows of the embedding [B, T, hidden_size] as the first layer reads them: the stream [B, T, stream_size]. A
// layer's features are (norm(projection x / sqrt(hidden_size)) + sqrt(size) row) / sqrt(2) of the embedded
// token x (Gemma 3n and 4 in transformers).
at::Tensor embedded(const ModelConfig& config, const at::Tensor& rows, const LayerEmbedding& of_layers);

// The gradient by rows of the embedding, given that by the stream that embedded() makes of them.
at::Tensor gradient_by_rows(const ModelConfig& config, const at::Tensor& rows,
                            const LayerEmbedding& of_layers, const at::Tensor& by_stream);

// Hidden states behind the last layer as the head reads them: the stream, or its hidden states, [...,
// hidden_size]. `gains` and `bias` are those of the final norm, the bias undefined where it has none.
at::Tensor final_norm(const ModelConfig& config, const at::Tensor& stream, const at::Tensor& gains,
                      const at::Tensor& bias);

// The hidden states of the stream; what layers change of it; and the stream of such a part, whose other part
// is that of `like`. The values themselves where nothing stands behind them.
at::Tensor hidden_states(const ModelConfig& config, const at::Tensor& stream);
at::Tensor changing_part(const ModelConfig& config, const at::Tensor& stream);
at::Tensor with_changing_part(const ModelConfig& config, const at::Tensor& changing, const at::Tensor& like);

// Logits, or scores of attention, capped by c > 0: c tanh(x / c), with gradients. As they are for 0. The
// second form has no gradients and overwrites the values.
at::Tensor softcapped(const at::Tensor& values, double cap);
at::Tensor softcap_(at::Tensor values, double cap);

}  // namespace strata
