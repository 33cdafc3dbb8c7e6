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

// Heads as attention takes them, [B, heads, T, D].
struct KeysAndValues {
  at::Tensor keys, values;
};

// Of the products: of the keys and, where these are not the same, of the values.
KeysAndValues own_keys(const LayerRun& run, const AttentionPlan& plan, const at::Tensor& keys,
                       const at::Tensor& values) {
  const at::Tensor k = normed_heads(run, plan, plan.k_norm, keys, plan.kv_heads);
  at::Tensor v = by_head(values, plan.kv_heads);
  if (plan.norms_values) v = rms_norm(v, {}, run.config.rms_norm_eps);
  return {apply_rope(k, run.rope), v};
}

at::Tensor mix(const LayerRun& run, const AttentionPlan& plan, const std::vector<at::Tensor>& products) {
  const int64_t queries = plan.heads * plan.head_dim, keys = plan.kv_heads * plan.head_dim;
  const bool takes = plan.takes_keys.size > 0;
  std::vector<int64_t> sizes = {plan.output_gate ? 2 * queries : queries, keys};
  if (!plan.keys_are_values || takes) sizes.push_back(keys);
  const std::vector<at::Tensor> parts = split_products(products, sizes);
  at::Tensor of_queries = parts[0], gate;
  if (plan.output_gate) {
    const std::vector<at::Tensor> halves = by_head(parts[0], plan.heads).chunk(2, -1);
    of_queries = side_by_side(halves[0]);
    gate = side_by_side(halves[1]);
  }
  const at::Tensor q = normed_heads(run, plan, plan.q_norm, of_queries, plan.heads);
  const auto [k, v] = takes
                          ? KeysAndValues{by_head(parts[1], plan.kv_heads), by_head(parts[2], plan.kv_heads)}
                          : own_keys(run, plan, parts[1], parts.back());
  at::Tensor rotated = apply_rope(q, run.rope);
  if (run.rope.query_scale.defined()) rotated = rotated * run.rope.query_scale.to(rotated.scalar_type());
  const at::Tensor sinks = plan.sinks.empty() ? at::Tensor() : run.weights.weight(plan.sinks);
  at::Tensor mixed = run.attention(rotated, k, v, plan.scores, sinks);
  if (gate.defined()) mixed = mixed * at::sigmoid(gate);
  return plan.gives_keys.size > 0 ? at::cat({mixed, side_by_side(k), side_by_side(v)}, -1) : mixed;
}

}  // namespace

void add_stages(const AttentionPlan& plan, std::vector<Stage>& stages) {
  Stage into;
  into.matrices = plan.inputs;
  into.takes = plan.takes_keys;
  into.gives = plan.gives_keys;
  into.combine = [plan](const LayerRun& run, const std::vector<at::Tensor>& products) {
    return mix(run, plan, products);
  };
  Stage out = output_stage(plan.output);
  out.reads_attention = true;
  if (!plan.norms_values && plan.takes_keys.size == 0) out.rows = Role::V;
  out.givers = plan.inputs;
  stages.push_back(std::move(into));
  stages.push_back(std::move(out));
}

}  // namespace strata
