#include "strata/forward/convolution.h"
#include "strata/forward/layer.h"
#include "strata/forward/linear_recurrence.h"

namespace strata {
namespace {

// x [B, T, features], in groups that are normed by themselves, times gains.
at::Tensor normed_in_groups(const LayerRun& run, const std::string& norm, const at::Tensor& x,
                            int64_t groups) {
  const at::Tensor grouped = x.view({x.size(0), x.size(1), groups, -1});
  return rms_norm(grouped, {}, run.config.rms_norm_eps).view(x.sizes()) * run.weights.weight(norm);
}

at::Tensor scan(const LayerRun& run, const MambaPlan& plan, const std::vector<at::Tensor>& products) {
  const RecurrenceSizes& sizes = run.config.recurrence;
  const int64_t keys = sizes.keys(), values = sizes.values(), heads = sizes.value_heads;
  const std::vector<at::Tensor> parts = split_products(products, {values, values + 2 * keys, heads});
  const auto vector = [&](const std::string& name) { return run.weights.weight(name).to(at::kFloat); };
  const at::Tensor xbc = at::silu(causal_convolution(parts[1], run.weights.weight(plan.convolution),
                                                     run.weights.bias(plan.convolution),
                                                     run.memory == nullptr ? nullptr : &run.memory->inputs))
                             .to(at::kFloat);
  const auto key_heads = [&](int64_t first) {
    return repeat_heads(by_head(xbc.narrow(-1, first, keys), sizes.key_heads), heads, sizes.tiled);
  };
  const at::Tensor x = by_head(xbc.narrow(-1, 0, values), heads);
  const at::Tensor step = at::softplus(parts[2].to(at::kFloat) + vector(plan.step_bias));
  LinearRecurrence recurrence;
  recurrence.q = key_heads(values + keys);  // C
  recurrence.k = key_heads(values);         // B
  recurrence.v = x * step.transpose(1, 2).unsqueeze(-1);
  recurrence.log_decay = (step * vector(plan.decay)).transpose(1, 2);
  const at::Tensor read = run_recurrence(recurrence, run.memory == nullptr ? nullptr : &run.memory->state) +
                          x * vector(plan.skip).view({1, heads, 1, 1});
  const at::Tensor gated = side_by_side(read) * at::silu(parts[0].to(at::kFloat));
  return normed_in_groups(run, plan.norm, gated.to(parts[0].scalar_type()), sizes.key_heads);
}

}  // namespace

void add_stages(const MambaPlan& plan, std::vector<Stage>& stages) {
  Stage into;
  into.matrices = {plan.input};
  into.combine = [plan](const LayerRun& run, const std::vector<at::Tensor>& products) {
    return scan(run, plan, products);
  };
  Stage out = output_stage(plan.output);
  out.norm = plan.norm;
  out.is_normed = true;
  stages.push_back(std::move(into));
  stages.push_back(std::move(out));
}

}  // namespace strata
