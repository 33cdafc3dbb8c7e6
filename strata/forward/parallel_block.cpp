#include <ATen/ATen.h>

#include "strata/forward/layer.h"

namespace strata {

// Into both, and out of one after the other.
void add_stages(const ParallelPlan& plan, std::vector<Stage>& stages) {
  std::vector<Stage> attention, feed_forward;
  add_stages(plan.attention, attention);
  add_stages(plan.feed_forward, feed_forward);
  Stage into;
  for (const Stage* of_one : {&attention.front(), &feed_forward.front()})
    into.matrices.insert(into.matrices.end(), of_one->matrices.begin(), of_one->matrices.end());
  into.combine = [mix = attention.front().combine, gate = feed_forward.front().combine,
                  count = static_cast<int64_t>(plan.attention.inputs.size())](
                     const LayerRun& run, const std::vector<at::Tensor>& products) {
    const auto behind = products.begin() + count;
    return at::cat({mix(run, {products.begin(), behind}), gate(run, {behind, products.end()})}, -1);
  };
  attention.back().ends_block = true;
  stages.push_back(std::move(into));
  stages.push_back(std::move(attention.back()));
  stages.push_back(std::move(feed_forward.back()));
}

}  // namespace strata
