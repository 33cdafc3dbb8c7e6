#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "strata/quantizers/group_layout.h"
#include "strata/quantizers/learned_matrix.h"

namespace strata {
namespace {

constexpr double kStretch = 1.2, kShift = 0.1;  // h(V) reaches 0 and 1 at finite V
constexpr double kWarmUp = 0.2, kFirstGamma = 20, kLastGamma = 2;

class AdaRound : public LearnedMatrix {
 public:
  AdaRound(const at::Tensor& weights, AffineMatrix start)
      : start_(std::move(start)), layout_(start_.scheme, start_.rows, start_.cols) {
    const at::NoGradGuard no_grad;
    const double top = (1 << start_.scheme.bits) - 1;
    const at::Tensor scales = of_groups(start_.scales, weights), zeros = of_groups(start_.zeros, weights);
    const at::Tensor inverse = at::where(scales != 0, scales.reciprocal(), at::zeros_like(scales));
    const at::Tensor exact = layout_.to_groups(weights) * inverse + zeros, below = exact.floor();
    const at::Tensor low = below.clamp(0, top), high = (below + 1).clamp(0, top);
    lower_code_ = layout_.to_matrix(low);
    lower_ = layout_.to_matrix((low - zeros) * scales);
    step_ = layout_.to_matrix((high - low) * scales);
    const at::Tensor fraction = layout_.to_matrix(exact - below);
    rounding_ = ((fraction + kShift) / (kStretch - kShift - fraction)).log_();
    rounding_.set_requires_grad(true);
  }

  std::vector<at::Tensor> parameters() const override { return {rounding_}; }

  at::Tensor weights() override {
    up_ = rounded_up();
    return at::addcmul(lower_, step_, up_);
  }

  at::Tensor regularizer(double progress) override {
    if (progress < kWarmUp) return {};
    const double gamma = kFirstGamma + (kLastGamma - kFirstGamma) * (progress - kWarmUp) / (1 - kWarmUp);
    return (1 - (2 * up_ - 1).abs().pow(gamma)).sum();
  }

  AffineMatrix stored() const override {
    const at::NoGradGuard no_grad;
    AffineMatrix matrix = start_;
    const double top = (1 << start_.scheme.bits) - 1;
    // Codes outside the range do not move: lower and upper code are the same there.
    const at::Tensor up = rounded_up().ge(0.5).logical_and(step_.ne(0)).to(at::kFloat);
    const at::Tensor codes = (lower_code_ + up).clamp(0, top).to(at::kCPU, at::kByte).contiguous();
    std::copy_n(codes.data_ptr<uint8_t>(), codes.numel(), matrix.codes.data());
    return matrix;
  }

 private:
  at::Tensor of_groups(const std::vector<float>& values, const at::Tensor& like) const {
    return at::tensor(values, at::kFloat).to(like.device()).unsqueeze(1);
  }

  at::Tensor rounded_up() const { return at::sigmoid(rounding_).mul(kStretch).sub(kShift).clamp(0, 1); }

  AffineMatrix start_;
  GroupLayout layout_;
  at::Tensor lower_code_, lower_, step_;  // of rounding down, and what rounding up adds
  at::Tensor rounding_, up_;              // V and h(V)
};

}  // namespace

std::unique_ptr<LearnedMatrix> make_adaround(const at::Tensor& weights, AffineMatrix start) {
  return std::make_unique<AdaRound>(weights, std::move(start));
}

}  // namespace strata
