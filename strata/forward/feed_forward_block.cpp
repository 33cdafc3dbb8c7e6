#include "strata/forward/layer.h"

namespace strata {
namespace {

at::Tensor activated(Activation activation, const at::Tensor& x) {
  return activation == Activation::Silu ? at::silu(x) : at::gelu(x, "tanh");
}

// gpt-oss's gate and up.
at::Tensor clamped_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  constexpr double kSlope = 1.702, kLimit = 7;
  const at::Tensor bounded = gate.clamp_max(kLimit);
  return bounded * at::sigmoid(bounded * kSlope) * (up.clamp(-kLimit, kLimit) + 1);
}

}  // namespace

void add_stages(const FeedForwardPlan& plan, std::vector<Stage>& stages) {
  Stage into;
  into.matrices = plan.inputs;
  into.combine = [plan](const LayerRun&, const std::vector<at::Tensor>& products) {
    int64_t width = 0;
    for (const at::Tensor& product : products) width += product.size(-1);
    if (plan.gated) width /= 2;
    if (!plan.gated) return activated(plan.activation, split_products(products, {width})[0]);
    const std::vector<at::Tensor> parts = split_products(products, {width, width});
    if (plan.activation == Activation::ClampedSwiglu) return clamped_swiglu(parts[0], parts[1]);
    return activated(plan.activation, parts[0]).mul_(parts[1]);
  };
  Stage out = output_stage(plan.output);
  if (plan.gated && plan.activation != Activation::ClampedSwiglu) out.rows = Role::Up;
  out.givers = plan.inputs;
  stages.push_back(std::move(into));
  stages.push_back(std::move(out));
}

}  // namespace strata
