#include "strata/forward/convolution.h"
#include "strata/forward/layer.h"

namespace strata {
namespace {

at::Tensor convolve(const LayerRun& run, const ShortConvolutionPlan& plan,
                    const std::vector<at::Tensor>& products) {
  const int64_t width = run.config.hidden_size;
  const std::vector<at::Tensor> parts = split_products(products, {width, width, width});
  const at::Tensor &b = parts[0], &c = parts[1], &x = parts[2];
  return c * causal_convolution(b * x, run.weights.weight(plan.convolution),
                                run.weights.bias(plan.convolution),
                                run.memory == nullptr ? nullptr : &run.memory->inputs);
}

}  // namespace

void add_stages(const ShortConvolutionPlan& plan, std::vector<Stage>& stages) {
  Stage into;
  into.matrices = {plan.input};
  into.combine = [plan](const LayerRun& run, const std::vector<at::Tensor>& products) {
    return convolve(run, plan, products);
  };
  stages.push_back(std::move(into));
  stages.push_back(output_stage(plan.output));
}

}  // namespace strata
