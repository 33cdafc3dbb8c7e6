#include "strata/model/readers.h"

namespace strata {
namespace {

using Readers = std::vector<std::vector<std::string>>;

// Most blocks: one input of the block, and one of what they make of it.
template <class Plan>
Readers of_block(const Plan& plan) {
  return {plan.inputs, {plan.output}};
}

Readers of_block(const LatentAttentionPlan& plan) {
  if (plan.query_output.empty()) return {plan.inputs, {plan.output}};
  return {plan.inputs, {plan.query_output}, {plan.output}};
}

Readers of_block(const ExpertsPlan& plan) {
  Readers readers = of_block(plan.experts);
  if (!plan.shared) return readers;
  const Readers shared = of_block(*plan.shared);
  readers.insert(readers.begin(), shared.front());
  readers.push_back(shared.back());
  return readers;
}

Readers of_block(const ParallelPlan& plan) {
  std::vector<std::string> inputs = plan.attention.inputs;
  inputs.insert(inputs.end(), plan.feed_forward.inputs.begin(), plan.feed_forward.inputs.end());
  return {inputs, {plan.attention.output}, {plan.feed_forward.output}};
}

Readers of_block(const ShortConvolutionPlan& plan) {
  return {{plan.input}, {plan.output}};
}

Readers of_block(const MambaPlan& plan) {
  return {{plan.input}, {plan.output}};
}

Readers of_block(const LayerEmbeddingPlan& plan) {
  return {{plan.gate}, {plan.output}};
}

Readers of_block(const DeltaNetPlan& plan) {
  return {{plan.qkv, plan.z}, {plan.output}};
}

}  // namespace

Readers readers_of(const LayerPlan& plan) {
  Readers readers;
  for (const BlockPlan& block : plan.blocks)
    for (std::vector<std::string>& of_one :
         std::visit([](const auto& of_kind) { return of_block(of_kind); }, block.block))
      readers.push_back(std::move(of_one));
  return readers;
}

}  // namespace strata
