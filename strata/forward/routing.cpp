#include "strata/forward/routing.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

#include "strata/core/error.h"
#include "strata/forward/linear.h"

namespace strata {
namespace {

at::Tensor scores_of(const RouterPlan& plan, const at::Tensor& logits) {
  const at::Tensor wide = logits.to(at::kFloat);
  return plan.score == RouterPlan::Score::Softmax ? at::softmax(wide, -1) : at::sigmoid(wide);
}

// The scores by which experts are chosen: biased, and of groups that are not a token's less than any other.
at::Tensor choice_scores(const RouterPlan& plan, const at::Tensor& scores, const at::Tensor& bias) {
  const at::Tensor biased = bias.defined() ? scores + bias.to(scores.scalar_type()) : scores;
  if (plan.groups_used == plan.groups) return biased;
  const at::Tensor by_group = biased.view({biased.size(0), plan.groups, -1});
  const int64_t best = plan.group_score == RouterPlan::GroupScore::Best ? 1 : 2;
  const at::Tensor of_groups = std::get<0>(by_group.topk(std::min(best, by_group.size(2)), -1)).sum(-1);
  const at::Tensor chosen = std::get<1>(of_groups.topk(plan.groups_used, -1));
  const at::Tensor open = at::zeros_like(of_groups).scatter(1, chosen, 1).gt(0).unsqueeze(-1);
  return by_group.masked_fill(open.logical_not(), -std::numeric_limits<float>::infinity())
      .view(biased.sizes());
}

// Sorts (token, expert) pairs: fills in runs, and gives for every row the pair that it is.
at::Tensor sort_rows(Routing& routing, const at::Tensor& chosen, int64_t tokens_together) {
  const at::Tensor experts = chosen.to(at::kCPU).contiguous();
  const int64_t* expert_of = experts.data_ptr<int64_t>();
  const int64_t used = experts.size(1), of_group = tokens_together * used;
  at::Tensor pairs = at::empty({experts.numel()}, at::kLong);
  int64_t* row = pairs.data_ptr<int64_t>();
  for (int64_t first = 0; first < experts.numel(); first += of_group) {
    std::vector<std::vector<int64_t>> of_expert(static_cast<size_t>(routing.experts));
    for (int64_t pair = first; pair < first + of_group; ++pair)
      of_expert[static_cast<size_t>(expert_of[pair])].push_back(pair);
    for (size_t expert = 0; expert < of_expert.size(); ++expert) {
      if (of_expert[expert].empty()) continue;
      routing.runs.push_back({static_cast<int64_t>(expert), static_cast<int64_t>(of_expert[expert].size())});
      row = std::copy(of_expert[expert].begin(), of_expert[expert].end(), row);
    }
  }
  return pairs;
}

std::vector<int64_t> sizes_of(const Routing& routing) {
  std::vector<int64_t> sizes;
  for (const Routing::Run& run : routing.runs) sizes.push_back(run.rows);
  return sizes;
}

}  // namespace

Routing route(const RouterPlan& plan, const at::Tensor& logits, const at::Tensor& bias) {
  const int64_t length = logits.size(1);
  const at::Tensor scores = scores_of(plan, logits.reshape({-1, logits.size(-1)}));
  const at::Tensor chosen = std::get<1>(choice_scores(plan, scores.detach(), bias).topk(plan.used, -1));
  at::Tensor gates = scores.gather(1, chosen);
  if (plan.renormalized) gates = gates / gates.sum(-1, true);
  if (plan.scale != 1) gates = gates * plan.scale;

  Routing routing;
  routing.experts = logits.size(-1);
  // Tokens of sequences that are written token by token go through together, as their products do.
  const bool apart = logits.is_cpu() && length > 1;
  const at::Tensor pairs = sort_rows(routing, chosen, apart ? length : chosen.size(0));
  at::Tensor places = at::empty_like(pairs);
  for (int64_t row = 0; row < pairs.numel(); ++row)
    places.data_ptr<int64_t>()[pairs.data_ptr<int64_t>()[row]] = row;
  const at::Tensor on_device = pairs.to(logits.device());
  routing.tokens = at::div(on_device, plan.used, "floor");
  routing.gates = gates.reshape({-1}).index_select(0, on_device);
  routing.places = places.view({-1, plan.used}).to(logits.device());
  return routing;
}

at::Tensor rows_of_experts(const Routing& routing, const at::Tensor& values) {
  return values.reshape({-1, values.size(-1)}).index_select(0, routing.tokens).unsqueeze(0);
}

at::Tensor expert_products(const Routing& routing, const at::Tensor& input, const at::Tensor& weight,
                           const at::Tensor& bias) {
  // Views that autograd takes back in one step.
  const std::vector<at::Tensor> weights = weight.view({routing.experts, -1, weight.size(1)}).unbind(0);
  const std::vector<at::Tensor> inputs = input.split_with_sizes(sizes_of(routing), 1);
  std::vector<at::Tensor> biases, products;
  if (bias.defined()) biases = bias.view({routing.experts, -1}).unbind(0);
  for (size_t run = 0; run < inputs.size(); ++run) {
    const auto expert = static_cast<size_t>(routing.runs[run].expert);
    products.push_back(
        strata::linear(inputs[run], weights[expert], bias.defined() ? biases[expert] : at::Tensor()));
  }
  return at::cat(products, 1);
}

at::Tensor sum_of_experts(const Routing& routing, const at::Tensor& output, const at::Tensor& like) {
  const at::Tensor gated = output[0] * routing.gates.to(output.scalar_type()).unsqueeze(1);
  at::Tensor sum;
  for (const at::Tensor& places : routing.places.unbind(1)) {
    const at::Tensor of_one = gated.index_select(0, places);
    sum = sum.defined() ? sum + of_one : of_one;
  }
  return sum.view({like.size(0), like.size(1), -1});
}

at::Tensor gated_rows(const Routing& routing, const at::Tensor& input, int64_t expert) {
  std::vector<at::Tensor> rows;
  int64_t first = 0;
  for (const Routing::Run& run : routing.runs) {
    if (run.expert == expert)
      rows.push_back(input[0].narrow(0, first, run.rows) *
                     routing.gates.narrow(0, first, run.rows).to(input.scalar_type()).unsqueeze(1));
    first += run.rows;
  }
  if (rows.empty()) return input[0].narrow(0, 0, 0);
  return rows.size() == 1 ? rows.front() : at::cat(rows);
}

}  // namespace strata
