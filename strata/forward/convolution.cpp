#include "strata/forward/convolution.h"

namespace strata {

// Taps are added one after the other, so that no library shares a sum among threads.
at::Tensor causal_convolution(const at::Tensor& x, const at::Tensor& filters, const at::Tensor& bias,
                              at::Tensor* before) {
  const int64_t width = filters.size(-1), length = x.size(1);
  const bool continues = before != nullptr && before->defined();
  const at::Tensor earlier = continues ? *before : at::zeros({x.size(0), width - 1, x.size(2)}, x.options());
  const at::Tensor inputs = at::cat({earlier, x}, 1);
  const at::Tensor taps = filters.view({-1, width}).to(at::kFloat);
  at::Tensor sum;
  for (int64_t tap = 0; tap < width; ++tap) {
    const at::Tensor term = inputs.narrow(1, tap, length).to(at::kFloat) * taps.select(1, tap);
    sum = sum.defined() ? sum + term : term;
  }
  if (bias.defined()) sum = sum + bias.to(at::kFloat);
  if (before != nullptr) *before = inputs.narrow(1, length, width - 1).clone();
  return sum.to(x.scalar_type());
}

}  // namespace strata
