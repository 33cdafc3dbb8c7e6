#include "strata/quantizers/layer_output.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "strata/core/interrupt.h"
#include "strata/core/threads.h"
#include "strata/device/products.h"

namespace strata {
namespace {

constexpr int64_t kCudaBlocks = 16;  // that run together where nothing is kept for gradients

LayerRun run_of(ActivationStream& stream) {
  stream.decoder().hold_layer(stream.layer());
  return stream.decoder().layer_run(stream.layer(), stream.hidden(0, 1).size(1));
}

std::vector<int64_t> slice(const std::vector<int64_t>& blocks, size_t first, size_t count) {
  const auto begin = blocks.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(std::min(count, blocks.size() - first))};
}

}  // namespace

LayerOutput::LayerOutput(ActivationStream& inputs, const ActivationStream& targets,
                         std::vector<std::string> matrices)
    : inputs_(inputs),
      targets_(targets),
      matrices_(std::move(matrices)),
      run_(run_of(inputs)),
      on_cpu_(inputs.decoder().options().device.is_cpu()) {}

LayerRun LayerOutput::with(const std::vector<at::Tensor>& weights) const {
  LayerRun run = run_;
  for (size_t i = 0; i < matrices_.size(); ++i) run.weights.weight(matrices_[i]) = weights[i];
  return run;
}

at::Tensor LayerOutput::read(const ActivationStream& stream, const std::vector<int64_t>& blocks) {
  if (blocks.size() == 1) return stream.hidden(blocks.front(), 1);
  std::vector<at::Tensor> states;
  for (const int64_t block : blocks) states.push_back(stream.hidden(block, 1));
  return at::cat(states);
}

at::Tensor LayerOutput::output(const LayerRun& run, const std::vector<int64_t>& blocks) const {
  return hidden_states(run.config, run_layer(run, read(inputs_, blocks)));
}

at::Tensor LayerOutput::target(const std::vector<int64_t>& blocks) const {
  return hidden_states(run_.config, read(targets_, blocks));
}

double LayerOutput::error(const std::vector<at::Tensor>& weights, const std::vector<int64_t>& blocks) const {
  const at::NoGradGuard no_grad;
  const LayerRun run = with(weights);
  const size_t at_once = on_cpu_ ? 1 : kCudaBlocks;
  const size_t pieces = (blocks.size() + at_once - 1) / at_once;
  std::vector<at::Tensor> sums(pieces);  // of the blocks' means
  const OneThread one;
  parallel_for(on_cpu_ ? static_cast<int64_t>(pieces) : 1, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard of_this_thread;
    if (!on_cpu_) end = static_cast<int64_t>(pieces);
    for (int64_t piece = begin; piece < end; ++piece) {
      check_interrupted();
      const std::vector<int64_t> some = slice(blocks, static_cast<size_t>(piece) * at_once, at_once);
      const at::Tensor error = output(run, some).to(at::kFloat) - target(some).to(at::kFloat);
      sums[static_cast<size_t>(piece)] = error.square().mean(-1).mean(-1, false, at::kDouble).sum();
    }
  });
  at::Tensor total = sums.front();
  for (size_t i = 1; i < sums.size(); ++i) total = total + sums[i];
  return total.item<double>() / static_cast<double>(blocks.size());
}

std::vector<at::Tensor> LayerOutput::gradients(const std::vector<at::Tensor>& weights,
                                               const std::vector<int64_t>& blocks) const {
  const double scale = 2.0 / static_cast<double>(blocks.size());
  if (!on_cpu_) return gradients_of(weights, blocks, scale);
  std::vector<at::Tensor> total;
  const auto wave = static_cast<size_t>(thread_count());  // whose gradients are in memory
  for (size_t first = 0; first < blocks.size(); first += wave) {
    const std::vector<int64_t> some = slice(blocks, first, wave);
    std::vector<std::vector<at::Tensor>> of_block(some.size());
    {
      const OneThread one;
      parallel_for(static_cast<int64_t>(some.size()), 1, [&](int64_t i, int64_t) {
        of_block[static_cast<size_t>(i)] = gradients_of(weights, {some[static_cast<size_t>(i)]}, scale);
      });
    }
    if (first == 0) total = of_block.front();
    parallel_for(static_cast<int64_t>(total.size()), 1, [&](int64_t i, int64_t) {
      for (size_t block = first == 0 ? 1 : 0; block < of_block.size(); ++block)
        total[static_cast<size_t>(i)].add_(of_block[block][static_cast<size_t>(i)]);
    });
  }
  return total;
}

std::vector<at::Tensor> LayerOutput::gradients_of(const std::vector<at::Tensor>& weights,
                                                  const std::vector<int64_t>& blocks, double scale) const {
  const at::AutoGradMode with_gradients(true);
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& weight : weights) leaves.push_back(weight.detach().set_requires_grad(true));
  const at::Tensor output = this->output(with(leaves), blocks);
  {
    const at::NoGradGuard no_grad;
    const at::Tensor target = this->target(blocks);
    const double each = scale / static_cast<double>(target.size(1) * target.size(2));
    const at::Tensor gradient = (output.to(at::kFloat) - target.to(at::kFloat)).mul_(each);
    const at::AutoGradMode backward(true);
    output.backward(gradient.to(output.scalar_type()));
  }
  std::vector<at::Tensor> gradients;
  for (at::Tensor& leaf : leaves) gradients.push_back(leaf.grad());
  return gradients;
}

}  // namespace strata
