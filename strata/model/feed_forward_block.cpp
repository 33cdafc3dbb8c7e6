#include "strata/model/layer.h"

namespace strata {

void add_stages(const FeedForwardPlan& plan, std::vector<Stage>& stages) {
  Stage into;
  into.matrices = plan.inputs;
  into.combine = [](const LayerRun& run, const std::vector<at::Tensor>& products) {
    const int64_t width = run.config.intermediate_size;
    const std::vector<at::Tensor> parts = split_products(products, {width, width});
    return at::silu(parts[0]).mul_(parts[1]);
  };
  Stage out;
  out.matrices = {plan.output};
  out.reads_value = true;
  out.combine = [](const LayerRun&, const std::vector<at::Tensor>& products) { return products.front(); };
  out.rows = Role::Up;
  stages.push_back(std::move(into));
  stages.push_back(std::move(out));
}

}  // namespace strata
