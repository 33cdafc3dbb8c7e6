#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "strata/quantization/quantizer.h"

namespace strata {

// A matrix in affine groups whose stored form is learned by gradient descent.
class LearnedMatrix {
 public:
  virtual ~LearnedMatrix() = default;

  virtual std::vector<at::Tensor> parameters() const = 0;

  // What the parameters make of the weights, [rows, cols] float on their device; differentiable by them.
  virtual at::Tensor weights() = 0;

  // What is added to the loss so that learning ends in what can be stored, a sum over weights, when this part
  // of the steps is done; undefined when there is none. Follows a call of weights().
  virtual at::Tensor regularizer(double /*progress*/) { return {}; }

  // As it would be stored now.
  virtual AffineMatrix stored() const = 0;
};

// AdaRound (soft_rounding.h): scales s and zero points z are those of `start`, and
//   w' = s (clip(floor(w / s + z) + h(V), 0, 2^b - 1) - z).
// weights: [rows, cols] float on any device.
std::unique_ptr<LearnedMatrix> make_adaround(const at::Tensor& weights, AffineMatrix start);

// Learnable clipping (OmniQuant, Shao et al. 2023, arXiv 2308.13137): a group's codes spread over
//   [beta min(w), alpha max(w)],  h = (alpha max - beta min) / (2^b - 1),  z = -beta min / h,
// alpha = sigmoid(a) and beta = sigmoid(b), at first the same factor, chosen by search; a symmetric group has
// one factor for its scale. Gradients pass through rounding as through the identity. weights: [rows, cols]
// float.
std::unique_ptr<LearnedMatrix> make_learnable_clipping(const at::Tensor& weights, const AffineScheme& scheme);

}  // namespace strata
