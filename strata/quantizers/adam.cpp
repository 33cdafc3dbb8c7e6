#include "strata/quantizers/adam.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <utility>

namespace strata {

Adam::Adam(std::vector<at::Tensor> parameters, double learning_rate)
    : parameters_(std::move(parameters)), learning_rate_(learning_rate) {
  for (const at::Tensor& parameter : parameters_) {
    means_.push_back(at::zeros_like(parameter));
    squares_.push_back(at::zeros_like(parameter));
  }
}

void Adam::step() {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
  const at::NoGradGuard no_grad;
  ++steps_;
  const double mean_correction = 1 - std::pow(kBeta1, static_cast<double>(steps_));
  const double square_correction = std::sqrt(1 - std::pow(kBeta2, static_cast<double>(steps_)));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor gradient = parameters_[i].grad();
    if (!gradient.defined()) continue;
    means_[i].mul_(kBeta1).add_(gradient, 1 - kBeta1);
    squares_[i].mul_(kBeta2).addcmul_(gradient, gradient, 1 - kBeta2);
    const at::Tensor root = squares_[i].sqrt().div_(square_correction).add_(kEpsilon);
    parameters_[i].addcdiv_(means_[i], root, -learning_rate_ / mean_correction);
    parameters_[i].mutable_grad() = at::Tensor();
  }
}

}  // namespace strata
