#include <cmath>

#include "strata/forward/convolution.h"
#include "strata/forward/layer.h"
#include "strata/forward/linear_recurrence.h"

namespace strata {
namespace {

constexpr double kSmallestLength = 1e-6;  // squared

// Heads [B, H, T, D] of length 1.
at::Tensor of_unit_length(const at::Tensor& heads) {
  const at::Tensor wide = heads.to(at::kFloat);
  return wide * (wide.square().sum(-1, true) + kSmallestLength).rsqrt();
}

at::Tensor mix(const LayerRun& run, const DeltaNetPlan& plan, const std::vector<at::Tensor>& products) {
  const RecurrenceSizes& sizes = run.config.recurrence;
  const int64_t keys = sizes.keys(), values = sizes.values(), heads = sizes.value_heads;
  const std::vector<at::Tensor> parts = split_products(products, {2 * keys + values, values, heads, heads});
  const at::Tensor &z = parts[1], &b = parts[2], &a = parts[3];
  const at::Tensor qkv = at::silu(causal_convolution(parts[0], run.weights.weight(plan.convolution),
                                                     run.weights.bias(plan.convolution),
                                                     run.memory == nullptr ? nullptr : &run.memory->inputs));
  const auto key_heads = [&](int64_t first) {
    return repeat_heads(of_unit_length(by_head(qkv.narrow(-1, first, keys), sizes.key_heads)), heads,
                        sizes.tiled);
  };
  LinearRecurrence recurrence;
  recurrence.q = key_heads(0) / std::sqrt(static_cast<double>(sizes.key_dim));
  recurrence.k = key_heads(keys);
  recurrence.v = by_head(qkv.narrow(-1, 2 * keys, values), heads);
  const at::Tensor step = at::softplus(a.to(at::kFloat) + run.weights.weight(plan.step_bias).to(at::kFloat));
  recurrence.log_decay = (step * run.weights.weight(plan.decay).to(at::kFloat)).transpose(1, 2);
  recurrence.beta = at::sigmoid(b).transpose(1, 2);
  const at::Tensor read =
      run_recurrence(recurrence, run.memory == nullptr ? nullptr : &run.memory->state).to(z.scalar_type());
  const at::Tensor normed_heads = rms_norm(read, run.weights.weight(plan.norm), run.config.rms_norm_eps);
  return side_by_side(normed_heads) * at::silu(z);
}

}  // namespace

void add_stages(const DeltaNetPlan& plan, std::vector<Stage>& stages) {
  Stage into;
  into.matrices = {plan.qkv, plan.z};
  into.kept = {plan.b, plan.a};
  into.combine = [plan](const LayerRun& run, const std::vector<at::Tensor>& products) {
    return mix(run, plan, products);
  };
  stages.push_back(std::move(into));
  stages.push_back(output_stage(plan.output));
}

}  // namespace strata
