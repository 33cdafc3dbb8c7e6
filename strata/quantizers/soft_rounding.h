#pragma once

#include <ATen/ATen.h>

namespace strata {

// AdaRound's choice between rounding down and up (Nagel et al. 2020, arXiv 2004.10568): with one V a weight,
//   h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)
// is the part of a step that is added to what rounding down gives. It begins where nothing is rounded.
class SoftRounding {
 public:
  // `fraction`: what rounding down takes from each weight, in steps, from 0 to below 1; any shape and device.
  explicit SoftRounding(const at::Tensor& fraction);

  const at::Tensor& parameter() const { return parameter_; }  // V, to be learned

  // h(V), like `fraction`; differentiable by V.
  at::Tensor up();

  // sum(1 - |2 h(V) - 1|^gamma), whose gamma falls from 20 to 2 after a warm-up of a fifth of the steps,
  // makes every h(V) 0 or 1. `progress` is the part of the steps that is done; undefined within the warm-up.
  // Follows a call of up().
  at::Tensor regularizer(double progress) const;

  at::Tensor is_up() const;  // whether each weight would be rounded up now

 private:
  at::Tensor parameter_, up_;
};

}  // namespace strata
