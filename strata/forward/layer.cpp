#include "strata/forward/layer.h"

#include <utility>

#include "strata/core/error.h"
#include "strata/forward/linear.h"
#include "strata/model/layout.h"

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
at::Tensor stage_output(const LayerRun& run, const Stage& stage, const LayerState& state,
                        std::vector<at::Tensor> products) {
  for (const std::string& matrix : stage.kept)
    products.push_back(project(run.weights, matrix, stage_input(run, stage, state)));
  if (stage.takes_rest) products.push_back(rest_of_value(run, stage, state.value));
  if (stage.takes.size > 0) products.push_back(state.carried.narrow(-1, stage.takes.first, stage.takes.size));
  at::Tensor output = stage.combine(run, products);
  if (!stage.ends_block) return output;
  if (stage.by_expert) output = sum_of_experts(*state.routing, output, state.hidden);
  if (stage.shared_gate) output = output * state.routing->shared_gate;
  const at::Tensor added = behind_norm(run, run.plan.blocks[stage.block].norm_after, output);
  return run.config.residual_scale == 1 ? added : added * run.config.residual_scale;
}

// Leaves to later layers what stands last in the output, which is without it behind that.
void give(const CarriedPart& part, at::Tensor& output, at::Tensor& carried) {
  const int64_t own = output.size(-1) - part.size, end = part.first + part.size;
  carried = at::cat({carried.narrow(-1, 0, part.first), output.narrow(-1, own, part.size),
                     carried.narrow(-1, end, carried.size(-1) - end)},
                    -1);
  output = output.narrow(-1, 0, own);
}

// Adds to the stream, or waits for the next stage.
void take_output(const LayerRun& run, const Stage& stage, const at::Tensor& output, LayerState& state) {
  at::Tensor& waiting = stage.by_expert ? state.of_experts : state.value;
  if (!stage.ends_block) {
    waiting = output;
    if (stage.gives.size > 0) give(stage.gives, waiting, state.carried);
    return;
  }
  state.hidden = state.hidden + output;
  if (stage.ends_layer && !run.plan.scale.empty())
    state.hidden = state.hidden * run.weights.weight(run.plan.scale);
  waiting = stage.by_expert ? at::Tensor() : rest_of_value(run, stage, waiting);
}

at::Tensor rounded_input(const LayerWeights& weights, const std::string& matrix, const at::Tensor& input) {
  return weights.round_input ? weights.round_input(matrix, input) : input;
}

std::vector<at::Tensor> products_of(const LayerRun& run, const Stage& stage, const LayerState& state,
                                    const InputObserver& observe) {
  if (stage.route) return {};
  const at::Tensor input = stage_input(run, stage, state);
  if (observe)
    for (const std::string& matrix : stage.matrices) show_input(stage, state, matrix, input, observe);
  std::vector<at::Tensor> products;
  for (const std::string& matrix : stage.matrices)
    products.push_back(stage_product(stage, state, rounded_input(run.weights, matrix, input),
                                     run.weights.weight(matrix), run.weights.bias(matrix)));
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
    for (size_t s = first; s < stages.size(); ++s)
      if (!stages[s].reads_value) stages[s].norm = plan.blocks[block].norm_before;
    stages.back().ends_block = true;
  }
  if (!stages.empty()) stages.back().ends_layer = true;
  return stages;
}

at::Tensor project(const LayerWeights& weights, const std::string& matrix, const at::Tensor& input) {
  return strata::linear(rounded_input(weights, matrix, input), weights.weight(matrix), weights.bias(matrix));
}

at::Tensor stage_product(const Stage& stage, const LayerState& state, const at::Tensor& input,
                         const at::Tensor& weight, const at::Tensor& bias) {
  return stage.by_expert ? expert_products(*state.routing, input, weight, bias)
                         : strata::linear(input, weight, bias);
}

at::Tensor stage_input(const LayerRun& run, const Stage& stage, const LayerState& state) {
  if (stage.by_expert && stage.reads_value) return state.of_experts;
  if (stage.reads_value) {
    const at::Tensor value = state.value.narrow(-1, 0, inputs_of(run, stage));
    return stage.is_normed ? value : behind_norm(run, stage.norm, value);
  }
  const at::Tensor input = behind_norm(run, stage.norm, state.hidden);
  return stage.by_expert ? rows_of_experts(*state.routing, input) : input;
}

void show_input(const Stage& stage, const LayerState& state, const std::string& matrix,
                const at::Tensor& input, const InputObserver& observe) {
  if (!stage.by_expert) return observe(matrix, input);
  for (int64_t expert = 0; expert < state.routing->experts; ++expert)
    observe(expert_name(matrix, expert), gated_rows(*state.routing, input, expert));
}

LayerState finish_stage(const LayerRun& run, const Stage& stage, const LayerState& state,
                        const std::vector<at::Tensor>& products) {
  LayerState behind = state;
  if (stage.route)
    behind.routing = std::make_shared<const Routing>(stage.route(run, stage_input(run, stage, state)));
  else
    take_output(run, stage, stage_output(run, stage, state, products), behind);
  return behind;
}

LayerState run_stage(const LayerRun& run, const Stage& stage, const LayerState& state,
                     const InputObserver& observe) {
  return finish_stage(run, stage, state, products_of(run, stage, state, observe));
}

LayerState state_of(const LayerRun& run, const at::Tensor& stream) {
  const int64_t hidden_size = run.config.hidden_size, carried = stream.size(-1) - hidden_size;
  if (carried == 0) return {stream, {}};
  LayerState state{stream.narrow(-1, 0, hidden_size), {}};
  state.carried = stream.narrow(-1, hidden_size, carried);
  return state;
}

at::Tensor stream_of(const LayerState& state) {
  return state.carried.defined() ? at::cat({state.hidden, state.carried}, -1) : state.hidden;
}

at::Tensor run_layer(const LayerRun& run, const at::Tensor& stream, const InputObserver& observe) {
  LayerState state = state_of(run, stream);
  for (const Stage& stage : run.stages) state = run_stage(run, stage, state, observe);
  return stream_of(state);
}

at::Tensor block_output(const LayerRun& run, size_t block, const at::Tensor& stream) {
  LayerState state = state_of(run, stream);
  at::Tensor sum;
  for (const Stage& stage : run.stages) {
    if (stage.block != block) continue;
    if (stage.route) {
      state = run_stage(run, stage, state);
      continue;
    }
    const at::Tensor output = stage_output(run, stage, state, products_of(run, stage, state, nullptr));
    if (stage.ends_block) sum = sum.defined() ? sum + output : output;
    take_output(run, stage, output, state);
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

Stage output_stage(const std::string& matrix) {
  Stage out;
  out.matrices = {matrix};
  out.reads_value = true;
  out.combine = [](const LayerRun&, const std::vector<at::Tensor>& products) { return products.front(); };
  return out;
}

at::Tensor by_head(const at::Tensor& values, int64_t heads) {
  return values.reshape({values.size(0), values.size(1), heads, -1}).transpose(1, 2);
}

at::Tensor side_by_side(const at::Tensor& heads) {
  return heads.transpose(1, 2).reshape({heads.size(0), heads.size(2), -1});
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
