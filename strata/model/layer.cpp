#include "strata/model/layer.h"

#include <utility>

#include "strata/core/error.h"
#include "strata/model/linear.h"

namespace strata {
namespace {

at::Tensor behind_norm(const LayerRun& run, const std::string& norm, const at::Tensor& values) {
  return norm.empty() ? values : normed(run.config, values, run.weights.weight(norm), run.weights.bias(norm));
}

int64_t inputs_of(const LayerRun& run, const Stage& stage) {
  return run.weights.weight(stage.matrices.front()).size(1);
}

// Of the value what the stage leaves.
at::Tensor rest_of_value(const LayerRun& run, const Stage& stage, const at::Tensor& value) {
  const int64_t read = stage.reads_value ? inputs_of(run, stage) : 0;
  return !value.defined() || value.size(-1) == read ? at::Tensor()
                                                    : value.narrow(-1, read, value.size(-1) - read);
}

// What comes out of the stage, before it is added to the stream where it is.
at::Tensor stage_output(const LayerRun& run, const Stage& stage, const std::vector<at::Tensor>& products) {
  const at::Tensor output = stage.combine(run, products);
  if (!stage.ends_block) return output;
  const at::Tensor added = behind_norm(run, run.plan.blocks[stage.block].norm_after, output);
  return run.config.residual_scale == 1 ? added : added * run.config.residual_scale;
}

std::vector<at::Tensor> products_of(const LayerRun& run, const Stage& stage, const at::Tensor& input,
                                    const InputObserver& observe) {
  if (observe)
    for (const std::string& matrix : stage.matrices) observe(matrix, input);
  std::vector<at::Tensor> products;
  for (const std::string& matrix : stage.matrices) products.push_back(project(run.weights, matrix, input));
  return products;
}

}  // namespace

const at::Tensor& LayerWeights::weight(const std::string& name) const {
  auto found = tensors.find(name + ".weight");
  if (found == tensors.end()) found = tensors.find(name);
  if (found == tensors.end()) fail("a layer without {}.weight cannot be run", name);
  return found->second;
}

at::Tensor& LayerWeights::weight(const std::string& name) {
  return const_cast<at::Tensor&>(std::as_const(*this).weight(name));
}

at::Tensor LayerWeights::bias(const std::string& name) const {
  const auto found = tensors.find(name + ".bias");
  return found == tensors.end() ? at::Tensor() : found->second;
}

std::vector<Stage> stages_of(const LayerPlan& plan) {
  std::vector<Stage> stages;
  for (size_t block = 0; block < plan.blocks.size(); ++block) {
    const size_t first = stages.size();
    std::visit([&](const auto& of_block) { add_stages(of_block, stages); }, plan.blocks[block].block);
    for (size_t s = first; s < stages.size(); ++s) stages[s].block = block;
    stages[first].norm = plan.blocks[block].norm_before;
    stages.back().ends_block = true;
  }
  if (!stages.empty()) stages.back().ends_layer = true;
  return stages;
}

at::Tensor project(const LayerWeights& weights, const std::string& matrix, const at::Tensor& input) {
  return strata::linear(weights.round_input ? weights.round_input(matrix, input) : input,
                        weights.weight(matrix), weights.bias(matrix));
}

at::Tensor stage_input(const LayerRun& run, const Stage& stage, const LayerState& state) {
  if (!stage.reads_value) return behind_norm(run, stage.norm, state.hidden);
  return state.value.narrow(-1, 0, inputs_of(run, stage));
}

LayerState finish_stage(const LayerRun& run, const Stage& stage, const LayerState& state,
                        const std::vector<at::Tensor>& products) {
  const at::Tensor output = stage_output(run, stage, products);
  if (!stage.ends_block) return {state.hidden, output};
  at::Tensor hidden = state.hidden + output;
  if (stage.ends_layer && !run.plan.scale.empty()) hidden = hidden * run.weights.weight(run.plan.scale);
  return {std::move(hidden), rest_of_value(run, stage, state.value)};
}

LayerState run_stage(const LayerRun& run, const Stage& stage, const LayerState& state,
                     const InputObserver& observe) {
  return finish_stage(run, stage, state, products_of(run, stage, stage_input(run, stage, state), observe));
}

at::Tensor run_layer(const LayerRun& run, const at::Tensor& hidden, const InputObserver& observe) {
  LayerState state{hidden, {}};
  for (const Stage& stage : run.stages) state = run_stage(run, stage, state, observe);
  return state.hidden;
}

at::Tensor block_output(const LayerRun& run, size_t block, const at::Tensor& hidden) {
  LayerState state{hidden, {}};
  at::Tensor sum;
  for (const Stage& stage : run.stages) {
    if (stage.block != block) continue;
    const at::Tensor output =
        stage_output(run, stage, products_of(run, stage, stage_input(run, stage, state), nullptr));
    if (stage.ends_block) sum = sum.defined() ? sum + output : output;
    state.value = stage.ends_block ? rest_of_value(run, stage, state.value) : output;
  }
  if (!sum.defined()) fail("a layer of {} blocks has none with the number {}", run.plan.blocks.size(), block);
  return sum;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor mean_square = wide.square().mean(-1, true);
  const at::Tensor scaled = (wide * mean_square.add_(eps).rsqrt_()).to(x.scalar_type());
  return weight.defined() ? scaled.mul_(weight) : scaled;
}

at::Tensor normed(const ModelConfig& config, const at::Tensor& x, const at::Tensor& weight,
                  const at::Tensor& bias) {
  if (config.norm == ModelConfig::Norm::Rms) return rms_norm(x, weight, config.rms_norm_eps);
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor centred = wide - wide.mean(-1, true);
  const at::Tensor scaled = rms_norm(centred, weight, config.rms_norm_eps);
  return (bias.defined() ? scaled + bias : scaled).to(x.scalar_type());
}

std::vector<at::Tensor> split_products(const std::vector<at::Tensor>& products,
                                       const std::vector<int64_t>& sizes) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& product : products)
    for (int64_t first = 0; first < product.size(-1) && parts.size() < sizes.size();) {
      const int64_t size = sizes[parts.size()];
      parts.push_back(size == product.size(-1) ? product : product.narrow(-1, first, size));
      first += size;
    }
  if (parts.size() != sizes.size())
    fail("{} products were expected of a layer, and {} are there", sizes.size(), parts.size());
  return parts;
}

}  // namespace strata
