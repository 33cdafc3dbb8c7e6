#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "strata/quantizers/group_layout.h"
#include "strata/quantizers/learned_matrix.h"
#include "strata/quantizers/soft_rounding.h"

namespace strata {
namespace {

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
    rounding_.emplace(layout_.to_matrix(exact - below));
  }

  std::vector<at::Tensor> parameters() const override { return {rounding_->parameter()}; }

  at::Tensor weights() override { return at::addcmul(lower_, step_, rounding_->up()); }

  at::Tensor regularizer(double progress) override { return rounding_->regularizer(progress); }

  AffineMatrix stored() const override {
    const at::NoGradGuard no_grad;
    AffineMatrix matrix = start_;
    const double top = (1 << start_.scheme.bits) - 1;
    // Codes outside the range do not move: lower and upper code are the same there.
    const at::Tensor up = rounding_->is_up().logical_and(step_.ne(0)).to(at::kFloat);
    const at::Tensor codes = (lower_code_ + up).clamp(0, top).to(at::kCPU, at::kByte).contiguous();
    std::copy_n(codes.data_ptr<uint8_t>(), codes.numel(), matrix.codes.data());
    return matrix;
  }

 private:
  at::Tensor of_groups(const std::vector<float>& values, const at::Tensor& like) const {
    return at::tensor(values, at::kFloat).to(like.device()).unsqueeze(1);
  }

  AffineMatrix start_;
  GroupLayout layout_;
  at::Tensor lower_code_, lower_, step_;  // of rounding down, and what rounding up adds
  std::optional<SoftRounding> rounding_;
};

}  // namespace

std::unique_ptr<LearnedMatrix> make_adaround(const at::Tensor& weights, AffineMatrix start) {
  return std::make_unique<AdaRound>(weights, std::move(start));
}

}  // namespace strata
