#include "strata/forward/layer.h"

namespace strata {

void add_stages(const LayerEmbeddingPlan& plan, std::vector<Stage>& stages) {
  Stage into;
  into.matrices = {plan.gate};
  into.takes = plan.features;
  into.combine = [](const LayerRun&, const std::vector<at::Tensor>& products) {
    return at::gelu(products[0], "tanh") * products[1];
  };
  stages.push_back(std::move(into));
  stages.push_back(output_stage(plan.output));
}

}  // namespace strata
