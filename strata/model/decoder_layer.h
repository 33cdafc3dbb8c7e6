#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string_view>

#include "strata/model/model.h"

namespace strata {

// The tensors of one decoder layer; those the architecture does not have are undefined.
struct LayerWeights {
  at::Tensor input_norm, post_attention_norm;  // [d]
  at::Tensor q, k, v, o, gate, up, down;       // [out, in]
  at::Tensor q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;
  at::Tensor q_norm, k_norm;  // [head_dim]
  // What becomes of a matrix's input before the product; null where that keeps its values.
  std::function<at::Tensor(Role role, const at::Tensor& input)> round_input;
};

// The matrix of a role.
at::Tensor& weight_of(LayerWeights& weights, Role role);

// W x + b with the matrix and the bias of a role: input [..., in] -> [..., out].
at::Tensor project(const LayerWeights& weights, Role role, const at::Tensor& input);

// Cosines and sines of the rotary angles, float [T, head_dim / 2].
struct RopeTable {
  at::Tensor cosines, sines;
};
RopeTable make_rope_table(const ModelConfig& config, int64_t length, at::Device device);

// x / sqrt(mean(x^2) + eps) * weight over the last dimension, the norm in float32.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// Rotates features i and i + D / 2 of every head by the angle of the position (Hugging Face's halves), in
// float32. x [B, H, T, D].
at::Tensor apply_rope(const at::Tensor& x, const RopeTable& rope);

// Called with a module's name and its input.
using InputObserver = std::function<void(std::string_view module, const at::Tensor& input)>;

// Mixes values by attention over rotated queries and keys: q [B, H, T, D]; k, v [B, H_kv, T, D]; gives
// [B, T, H * D].
using Attention = std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;

// A layer's steps from one module input to the next. They make up the whole of it:
//   mixed = mixed_values(attention_input(hidden));        attended = hidden + project(O, mixed)
//   gated = gated_activation(mlp_input(attended));        output = attended + project(Down, gated)
at::Tensor attention_input(const ModelConfig& config, const LayerWeights& weights, const at::Tensor& hidden);
at::Tensor mixed_values(const ModelConfig& config, const LayerWeights& weights, const RopeTable& rope,
                        const Attention& attention, const at::Tensor& input);  // [B, T, H * D]
at::Tensor mlp_input(const ModelConfig& config, const LayerWeights& weights, const at::Tensor& attended);
at::Tensor gated_activation(const LayerWeights& weights, const at::Tensor& input);  // [B, T, intermediate]

// What the two halves of a layer add to their input [B, T, d]: attention over the input's norm, and the gated
// MLP over the norm of the input plus that. Nobody looks where `observe` is null.
at::Tensor attention_output(const ModelConfig& config, const LayerWeights& weights, const RopeTable& rope,
                            const Attention& attention, const at::Tensor& hidden,
                            const InputObserver& observe);
at::Tensor mlp_output(const ModelConfig& config, const LayerWeights& weights, const at::Tensor& attended,
                      const InputObserver& observe);

// Causal attention within each sequence, over keys that go back `window` positions (0 = all).
Attention causal_attention_over(int64_t window);

// Pre-norm attention and gated MLP, each added to its input: [B, T, d] -> [B, T, d].
at::Tensor run_decoder_layer(const ModelConfig& config, const LayerWeights& weights, const RopeTable& rope,
                             const Attention& attention, const at::Tensor& hidden,
                             const InputObserver& observe);

// The same with causal_attention_over(window).
at::Tensor run_decoder_layer(const ModelConfig& config, const LayerWeights& weights, const RopeTable& rope,
                             int64_t window, const at::Tensor& hidden, const InputObserver& observe);

}  // namespace strata
