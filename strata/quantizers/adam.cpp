#include "strata/quantizers/adam.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <utility>

namespace strata {

Adam::Adam(std::vector<at::Tensor> parameters, const AdamOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  for (const at::Tensor& parameter : parameters_) {
    state_.means.push_back(at::zeros_like(parameter));
    state_.squares.push_back(at::zeros_like(parameter));
  }
}

void Adam::step() {
  constexpr double kEpsilon = 1e-8;
  const at::NoGradGuard no_grad;
  const auto [rate, beta1, beta2] = options_;
  const auto steps = static_cast<double>(++state_.steps);
  const double mean_correction = 1 - std::pow(beta1, steps);
  const double square_correction = std::sqrt(1 - std::pow(beta2, steps));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor gradient = parameters_[i].grad();
    if (!gradient.defined()) continue;
    at::Tensor &mean = state_.means[i], &square = state_.squares[i];
    mean.mul_(beta1).add_(gradient, 1 - beta1);
    square.mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
    const at::Tensor root = square.sqrt().div_(square_correction).add_(kEpsilon);
    parameters_[i].addcdiv_(mean, root, -rate / mean_correction);
    parameters_[i].mutable_grad() = at::Tensor();
  }
}

}  // namespace strata
