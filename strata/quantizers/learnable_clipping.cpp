#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>

#include "strata/quantization/affine_storage.h"
#include "strata/quantization/rtn.h"
#include "strata/quantizers/group_layout.h"
#include "strata/quantizers/learned_matrix.h"

namespace strata {
namespace {

// alpha and beta begin with the one of these that leaves the smallest squared error of the group's weights.
constexpr double kFirstFactors[] = {0.98, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5};
constexpr double kFarthestZero = 1024;    // fp16 zero points beyond this are too coarse
constexpr double kSmallestScale = 1e-12;  // of groups of zeros

// Rounded, with the gradient of the identity.
at::Tensor straight_through(const at::Tensor& exact, const at::Tensor& rounded) {
  return exact + (rounded - exact).detach();
}

class LearnableClipping : public LearnedMatrix {
 public:
  LearnableClipping(const at::Tensor& weights, const AffineScheme& scheme)
      : scheme_(scheme),
        rows_(weights.size(0)),
        cols_(weights.size(1)),
        top_((1 << scheme.bits) - 1),
        layout_(scheme, rows_, cols_) {
    const at::NoGradGuard no_grad;
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    groups_ = layout_.to_groups(weights);
    lowest_ = layout_.to_groups(weights, kInfinity).amin(1, true);
    highest_ = layout_.to_groups(weights, -kInfinity).amax(1, true);
    if (scheme.symmetric) range_ = symmetric_scales();
    if (scheme.integer_zero || scheme.scales == ScaleStorage::SecondLevel) {
      lowest_.clamp_max_(0);
      highest_.clamp_min_(0);
    }
    choose_first_factors();
    upper_.set_requires_grad(true);
    lower_.set_requires_grad(true);
  }

  std::vector<at::Tensor> parameters() const override {
    if (scheme_.symmetric) return {upper_};
    return {upper_, lower_};
  }

  at::Tensor weights() override {
    const Groups groups = decide();
    const at::Tensor exact = groups_ / groups.scale + groups.zero;
    const at::Tensor codes = straight_through(exact, exact.round()).clamp(0, top_);
    return layout_.to_matrix((codes - groups.zero) * groups.scale);
  }

  AffineMatrix stored() const override {
    const at::NoGradGuard no_grad;
    AffineMatrix matrix;
    matrix.scheme = scheme_;
    matrix.rows = rows_;
    matrix.cols = cols_;
    store_scales(matrix);
    store_zeros(matrix);
    const at::Tensor scales = of_groups(matrix.scales), zeros = of_groups(matrix.zeros);
    const at::Tensor inverse = at::where(scales != 0, scales.reciprocal(), at::zeros_like(scales));
    const at::Tensor codes = layout_.to_matrix((groups_ * inverse + zeros).round().clamp(0, top_))
                                 .to(at::kCPU, at::kByte)
                                 .contiguous();
    matrix.codes.assign(codes.data_ptr<uint8_t>(), codes.data_ptr<uint8_t>() + codes.numel());
    return matrix;
  }

 private:
  struct Groups {
    at::Tensor scale, zero;  // [groups, 1]
  };

  void choose_first_factors() {
    at::Tensor best_error, best_logit;
    for (const double factor : kFirstFactors) {
      upper_ = lower_ = at::full_like(highest_, std::log(factor / (1 - factor)));
      const Groups groups = decide();
      const at::Tensor codes = (groups_ / groups.scale + groups.zero).round_().clamp_(0, top_);
      const at::Tensor rounded = (codes - groups.zero) * groups.scale;
      const at::Tensor error = (rounded - groups_).square_().sum(1, true);
      best_logit = best_error.defined() ? at::where(error < best_error, upper_, best_logit) : upper_;
      best_error = best_error.defined() ? at::minimum(error, best_error) : error;
    }
    upper_ = best_logit.clone();
    lower_ = best_logit.clone();
  }

  Groups decide() const {
    const at::Tensor alpha = at::sigmoid(upper_);
    if (scheme_.symmetric) return {range_ * alpha, middle()};
    const at::Tensor high = alpha * highest_, low = low_end();
    const at::Tensor farthest = at::maximum(high.abs(), low.abs());
    const at::Tensor scale =
        at::maximum((high - low) / top_, (farthest / kFarthestZero).clamp_min(kSmallestScale));
    return {scale, zero_of(scale)};
  }

  at::Tensor low_end() const { return at::sigmoid(lower_) * lowest_; }
  at::Tensor middle() const {
    return at::full({1, 1}, static_cast<double>(1 << (scheme_.bits - 1)), groups_.options());
  }

  // Of codes that begin at the low end.
  at::Tensor zero_of(const at::Tensor& scale) const {
    const at::Tensor zero = -low_end() / scale;
    return scheme_.integer_zero ? straight_through(zero, zero.round()).clamp(0, top_) : zero;
  }

  // As round-to-nearest has them; negative ones give the longer side the extra code.
  at::Tensor symmetric_scales() const {
    const std::vector<float> lowest = to_host(lowest_), highest = to_host(highest_);
    std::vector<float> scales(lowest.size());
    for (size_t i = 0; i < scales.size(); ++i) {
      scales[i] = rtn_scale(scheme_, lowest[i], highest[i]);
      if (scales[i] == 0) scales[i] = static_cast<float>(kSmallestScale);
    }
    return of_groups(scales);
  }

  void store_scales(AffineMatrix& matrix) const {
    matrix.scales = to_host(decide().scale);
    const int top = static_cast<int>(top_);
    if (scheme_.scales == ScaleStorage::SecondLevel)
      store_scales_in_8_bits(matrix.scales, top, matrix.second_level);
    else
      for (float& scale : matrix.scales) scale = stored_half_scale(scale, top);
  }

  // For the scales as they are stored.
  void store_zeros(AffineMatrix& matrix) const {
    if (scheme_.symmetric) {
      matrix.zeros.assign(matrix.scales.size(), static_cast<float>(1 << (scheme_.bits - 1)));
      return;
    }
    const at::Tensor scales = of_groups(matrix.scales);
    const at::Tensor zeros = at::where(scales != 0, zero_of(scales), at::zeros_like(scales));
    matrix.zeros = to_host(zeros);
    if (scheme_.scales == ScaleStorage::SecondLevel)
      store_zeros_in_8_bits(matrix.zeros, matrix.second_level);
    else if (!scheme_.integer_zero)
      for (float& zero : matrix.zeros) zero = stored_half_zero(zero);
  }

  at::Tensor of_groups(const std::vector<float>& values) const {
    return at::tensor(values, at::kFloat).to(groups_.device()).unsqueeze(1);
  }

  static std::vector<float> to_host(const at::Tensor& of_groups) {
    const at::Tensor values = of_groups.to(at::kCPU, at::kFloat).contiguous();
    return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
  }

  AffineScheme scheme_;
  int64_t rows_, cols_;
  double top_;
  GroupLayout layout_;
  at::Tensor groups_;                    // the weights
  at::Tensor lowest_, highest_, range_;  // of the groups; range_: their symmetric scales
  at::Tensor upper_, lower_;             // a and b
};

}  // namespace

std::unique_ptr<LearnedMatrix> make_learnable_clipping(const at::Tensor& weights,
                                                       const AffineScheme& scheme) {
  return std::make_unique<LearnableClipping>(weights, scheme);
}

}  // namespace strata
