#include "strata/forward/layer.h"

namespace strata {
namespace {

// Queries or keys [B, T, heads * D] of all heads, normed as the plan has it: [B, heads, T, D].
at::Tensor normed_heads(const LayerRun& run, const AttentionPlan& plan, const std::string& norm,
                        const at::Tensor& values, int64_t heads) {
  const auto with_norm = [&](const at::Tensor& x) {
    return norm.empty() ? x : normed(run.config, x, run.weights.weight(norm), run.weights.bias(norm));
  };
  if (plan.norm_over == AttentionPlan::NormOver::AllHeads) return by_head(with_norm(values), heads);
  return with_norm(by_head(values, heads));
}

at::Tensor mix(const LayerRun& run, const AttentionPlan& plan, const std::vector<at::Tensor>& products) {
  const int64_t queries = plan.heads * plan.head_dim, keys = plan.kv_heads * plan.head_dim;
  std::vector<int64_t> sizes = {plan.output_gate ? 2 * queries : queries, keys};
  if (!plan.keys_are_values) sizes.push_back(keys);
  const std::vector<at::Tensor> parts = split_products(products, sizes);
  at::Tensor of_queries = parts[0], gate;
  if (plan.output_gate) {
    const std::vector<at::Tensor> halves = by_head(parts[0], plan.heads).chunk(2, -1);
    of_queries = side_by_side(halves[0]);
    gate = side_by_side(halves[1]);
  }
  const at::Tensor q = normed_heads(run, plan, plan.q_norm, of_queries, plan.heads);
  const at::Tensor k = normed_heads(run, plan, plan.k_norm, parts[1], plan.kv_heads);
  at::Tensor v = by_head(parts.back(), plan.kv_heads);
  if (plan.norms_values) v = rms_norm(v, {}, run.config.rms_norm_eps);
  at::Tensor rotated = apply_rope(q, run.rope);
  if (run.rope.query_scale.defined()) rotated = rotated * run.rope.query_scale.to(rotated.scalar_type());
  const at::Tensor sinks = plan.sinks.empty() ? at::Tensor() : run.weights.weight(plan.sinks);
  const at::Tensor mixed = run.attention(rotated, apply_rope(k, run.rope), v, plan.scores, sinks);
  return gate.defined() ? mixed * at::sigmoid(gate) : mixed;
}

}  // namespace

void add_stages(const AttentionPlan& plan, std::vector<Stage>& stages) {
  Stage into;
  into.matrices = plan.inputs;
  into.combine = [plan](const LayerRun& run, const std::vector<at::Tensor>& products) {
    return mix(run, plan, products);
  };
  Stage out = output_stage(plan.output);
  out.reads_attention = true;
  if (!plan.norms_values) out.rows = Role::V;
  out.givers = plan.inputs;
  stages.push_back(std::move(into));
  stages.push_back(std::move(out));
}

}  // namespace strata
