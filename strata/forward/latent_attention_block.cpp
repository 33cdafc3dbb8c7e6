#include "strata/forward/layer.h"

namespace strata {
namespace {

at::Tensor heads_of(const at::Tensor& values, int64_t heads) {
  return values.view({values.size(0), values.size(1), heads, -1}).transpose(1, 2);
}

// With `turning` rotated behind what stands still: [B, H, T, still + turning].
at::Tensor beside_rotated(const LayerRun& run, const at::Tensor& still, const at::Tensor& turning) {
  const at::Tensor rotated = apply_rope(turning, run.rope);
  return at::cat({still, rotated.expand({still.size(0), still.size(1), still.size(2), -1})}, -1);
}

// Latent vector, rotating part of the keys, and queries [B, T, ...], in this order.
at::Tensor mix_latent(const LayerRun& run, const LatentAttentionPlan& plan, const at::Tensor& latent,
                      const at::Tensor& turning_keys, const at::Tensor& queries) {
  const LatentSizes& sizes = plan.sizes;
  const at::Tensor normed_latent = normed(run.config, latent, run.weights.weight(plan.latent_norm), {});
  const at::Tensor keys_and_values =
      heads_of(project(run.weights, plan.latent_output, normed_latent), plan.heads);
  const at::Tensor q = heads_of(queries, plan.heads);
  const at::Tensor rotated =
      beside_rotated(run, q.narrow(-1, 0, sizes.still_dim), q.narrow(-1, sizes.still_dim, sizes.turning_dim));
  const at::Tensor keys =
      beside_rotated(run, keys_and_values.narrow(-1, 0, sizes.still_dim), turning_keys.unsqueeze(1));
  return run.attention(rotated, keys, keys_and_values.narrow(-1, sizes.still_dim, sizes.value_dim),
                       plan.scores, at::Tensor());
}

}  // namespace

void add_stages(const LatentAttentionPlan& plan, std::vector<Stage>& stages) {
  const LatentSizes& sizes = plan.sizes;
  const int64_t queries = plan.heads * (sizes.still_dim + sizes.turning_dim);
  Stage into;
  into.matrices = plan.inputs;
  into.combine = [plan, sizes, queries](const LayerRun& run, const std::vector<at::Tensor>& products) {
    if (!plan.query_output.empty()) return at::cat(products, -1);
    const std::vector<at::Tensor> parts = split_products(products, {queries, sizes.rank, sizes.turning_dim});
    return mix_latent(run, plan, parts[1], parts[2], parts[0]);
  };
  stages.push_back(std::move(into));
  if (!plan.query_output.empty()) {
    Stage of_queries;
    of_queries.matrices = {plan.query_output};
    of_queries.reads_value = of_queries.takes_rest = true;
    of_queries.norm = plan.query_norm;
    of_queries.combine = [plan, sizes](const LayerRun& run, const std::vector<at::Tensor>& products) {
      const std::vector<at::Tensor> parts = split_products({products[1]}, {sizes.rank, sizes.turning_dim});
      return mix_latent(run, plan, parts[0], parts[1], products[0]);
    };
    stages.push_back(std::move(of_queries));
  }
  Stage out;
  out.matrices = {plan.output};
  out.reads_value = out.reads_attention = true;
  out.combine = [](const LayerRun&, const std::vector<at::Tensor>& products) { return products.front(); };
  stages.push_back(std::move(out));
}

}  // namespace strata
