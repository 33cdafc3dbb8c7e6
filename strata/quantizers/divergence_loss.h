#pragma once

#include <ATen/ATen.h>

namespace strata {

// The mean over rows of KL(p || q) in nats, a differentiable scalar in double, where p and q are the softmax
// of what two heads make of two models' normed hidden states of the same positions:
//   p ~ teacher [rows, d'] teacher_head' [d', V],   q ~ hidden [rows, d] head' [d, V],
// both capped where softcap c > 0: c tanh(logit / c).
// Gradients reach `hidden` and, where it asks for them, `head`; they are computed with the loss, from
// (q - p) / rows, a few rows at a time, so that no more logits are in memory. `scale` multiplies loss and
// gradients. On a CPU the result does not depend on the number of threads.
at::Tensor divergence_loss(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& teacher,
                           const at::Tensor& teacher_head, double scale = 1, double softcap = 0);

// The sum over rows of the same, a scalar in double without gradients, by the formula that keeps the digits
// of small divergences (row_divergences).
at::Tensor divergence_sum(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& teacher,
                          const at::Tensor& teacher_head, double softcap = 0);

}  // namespace strata
