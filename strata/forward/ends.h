#pragma once

#include <ATen/ATen.h>

#include "strata/model/config.h"

// The two ends of a decoder: what becomes of embedded tokens before the first layer, and of hidden states
// behind the last.
namespace strata {

// Rows of the embedding [..., hidden_size] as the first layer reads them.
at::Tensor embedded(const ModelConfig& config, const at::Tensor& rows);

// Hidden states behind the last layer as the head reads them. `gains` and `bias` are those of the
// final norm, the bias undefined where it has none.
at::Tensor final_norm(const ModelConfig& config, const at::Tensor& hidden, const at::Tensor& gains,
                      const at::Tensor& bias);

// Logits, or scores of attention, capped by c > 0: c tanh(x / c), with gradients. As they are for 0. The
// second form has no gradients and overwrites the values.
at::Tensor softcapped(const at::Tensor& values, double cap);
at::Tensor softcap_(at::Tensor values, double cap);

}  // namespace strata
