#pragma once

#include <ATen/ATen.h>

namespace strata {

// A causal convolution along a text, of every channel with a filter of its own: with filters w of K taps
//   y_t = sum_j w_j x_(t - K + 1 + j) + bias
// in float32. x [B, T, C], filters [C, 1, K], bias [C] or undefined; gives [B, T, C]. `before` are the K - 1
// inputs before the first, [B, K - 1, C], or undefined: zeros, and becomes the last K - 1 of these; null:
// zeros.
at::Tensor causal_convolution(const at::Tensor& x, const at::Tensor& filters, const at::Tensor& bias,
                              at::Tensor* before);

}  // namespace strata
