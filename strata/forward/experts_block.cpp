#include "strata/forward/layer.h"

namespace strata {
namespace {

Stage router_stage(const ExpertsPlan& plan) {
  Stage router;
  router.route = [plan](const LayerRun& run, const at::Tensor& input) {
    const at::Tensor bias =
        plan.router.bias.empty() ? at::Tensor() : run.weights.weight(plan.router.bias).detach();
    Routing routing = route(plan.router, project(run.weights, plan.router.router, input), bias);
    if (!plan.shared_gate.empty())
      routing.shared_gate = at::sigmoid(project(run.weights, plan.shared_gate, input));
    return routing;
  };
  return router;
}

}  // namespace

// The router, into the shared expert where there is one, into and out of the others, out of the shared one:
// what is added to the stream is added behind all that read it.
void add_stages(const ExpertsPlan& plan, std::vector<Stage>& stages) {
  std::vector<Stage> shared, experts;
  if (plan.shared) add_stages(*plan.shared, shared);
  add_stages(plan.experts, experts);
  for (Stage& stage : experts) stage.by_expert = true;
  experts.back().ends_block = true;
  stages.push_back(router_stage(plan));
  if (plan.shared) stages.push_back(std::move(shared.front()));
  for (Stage& stage : experts) stages.push_back(std::move(stage));
  if (!plan.shared) return;
  shared.back().shared_gate = !plan.shared_gate.empty();
  stages.push_back(std::move(shared.back()));
}

}  // namespace strata
