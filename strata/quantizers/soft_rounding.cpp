#include "strata/quantizers/soft_rounding.h"

#include <ATen/core/grad_mode.h>

namespace strata {
namespace {

constexpr double kStretch = 1.2, kShift = 0.1;  // h(V) reaches 0 and 1 at finite V
constexpr double kRoundingWarmUp = 0.2, kFirstGamma = 20, kLastGamma = 2;

at::Tensor rectified_sigmoid(const at::Tensor& v) {
  return at::sigmoid(v).mul(kStretch).sub(kShift).clamp(0, 1);
}

}  // namespace

SoftRounding::SoftRounding(const at::Tensor& fraction) {
  const at::NoGradGuard no_grad;
  parameter_ = ((fraction + kShift) / (kStretch - kShift - fraction)).log_();
  parameter_.set_requires_grad(true);
}

at::Tensor SoftRounding::up() {
  up_ = rectified_sigmoid(parameter_);
  return up_;
}

at::Tensor SoftRounding::regularizer(double progress) const {
  if (progress < kRoundingWarmUp) return {};
  const double gamma =
      kFirstGamma + (kLastGamma - kFirstGamma) * (progress - kRoundingWarmUp) / (1 - kRoundingWarmUp);
  return (1 - (2 * up_ - 1).abs().pow(gamma)).sum();
}

at::Tensor SoftRounding::is_up() const {
  const at::NoGradGuard no_grad;
  return rectified_sigmoid(parameter_).ge(0.5);
}

}  // namespace strata
