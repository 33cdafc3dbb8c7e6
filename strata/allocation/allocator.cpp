#include "strata/allocation/allocator.h"

#include <algorithm>
#include <utility>

#include "strata/allocation/problem.h"
#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/units.h"

namespace strata {
namespace {

Plan plan_of(const AllocationProblem& problem, const Allocation& allocation) {
  Plan plan;
  plan.model = problem.scores.model;
  plan.method = problem.scores.method;
  plan.allocator = problem.options.name;
  plan.budget = problem.options.budget.text();
  plan.gap = allocation.gap;
  plan.cost = 0;
  std::vector<Assignment> assignments(problem.modules.size());
  for (size_t c = 0; c < problem.classes.size(); ++c)
    for (size_t m : problem.classes[c]) {
      const AllocationModule& module = problem.modules[m];
      const Scheme& scheme = problem.menu[allocation.chosen[c]];
      assignments[m] = {module.tensor, module.rows, module.cols, scheme};
      const auto cost = problem.costs.cost(m, scheme);
      if (plan.cost && cost)
        *plan.cost += *cost;
      else
        plan.cost.reset();
    }
  for (size_t m = 0; m < assignments.size(); ++m) {
    const AllocationModule& module = problem.modules[m];
    if (!module.is_boundary()) {
      plan.assignments.push_back(std::move(assignments[m]));
      continue;
    }
    const Scheme& scheme = assignments[m].scheme;
    const bool is_head = module.module == "head";
    (is_head ? plan.head : plan.embedding) = scheme;
    (is_head ? plan.head_bits : plan.embedding_bits) =
        static_cast<double>(scheme.stored_bits(module.rows, module.cols)) /
        static_cast<double>(module.params());
  }
  if (allocation.cost) plan.cost = allocation.cost;
  for (const AllocationModule& module : problem.scores.modules)  // all that the model has
    plan.layers = std::max<int64_t>(plan.layers, module.layer + 1);
  plan.sum_up();
  return plan;
}

}  // namespace

std::string Budget::text() const {
  std::vector<std::string> parts;
  if (bits_per_weight) parts.push_back(fmt::format("{} bpw", *bits_per_weight));
  if (average_code_bits) parts.push_back(fmt::format("{} average code bits", *average_code_bits));
  if (bytes) parts.push_back(format_bytes(*bytes));
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : " and ") + part;
  return text.empty() ? "none" : text;
}

Ties parse_ties(std::string_view name) {
  if (name == "none") return Ties::None;
  if (name == "fused") return Ties::Fused;
  if (name == "layer") return Ties::Layer;
  fail_usage("\"{}\" is no kind of ties; there are none, fused and layer", name);
}

const std::vector<Allocator>& allocators() {
  static const std::vector<Allocator> list = {
      {"exact", "least total cost by an integer program", allocate_exact, true, exact_options, "", true},
      {"quadratic", "the same with the costs that pairs of matrices have together", allocate_quadratic, true,
       quadratic_options, "", true},
      {"rank", "two schemes by score", allocate_by_rank},
      {"boost", "the papers' outlier rule", allocate_boost, false, boost_options, "ladder"},
      {"uniform", "one scheme everywhere, as far as the budget goes", allocate_uniform},
  };
  return list;
}

const Allocator& find_allocator(std::string_view name) {
  std::string known;
  for (const Allocator& allocator : allocators()) {
    if (allocator.name == name) return allocator;
    known += (known.empty() ? "" : ", ") + allocator.name;
  }
  fail_usage("there is no allocator \"{}\"; there are {}", name, known);
}

Plan allocate(const std::vector<AllocationModule>& modules, const Scores& scores,
              const AllocatorOptions& options) {
  const Allocator& allocator = find_allocator(options.name);
  if (allocator.needs_budget && options.budget.empty())
    fail_usage("the allocator \"{}\" needs a budget: --bpw, --avg-bits or --size", options.name);
  const AllocationProblem problem(modules, scores, options);
  if (const Use all = problem.total(problem.largest());
      allocator.needs_budget && problem.limits.exceed(all)) {
    const Limit& limit = problem.limits.list().front();
    show_note(fmt::format(
        "the budget of {} is above what {} take at most, {}: every matrix takes the largest", limit.text,
        problem.possible_with(), problem.limits.text_of(limit.resource, all[limit.resource])));
    return plan_of(problem, {problem.largest(), std::nullopt});
  }
  return plan_of(problem, allocator.allocate(problem));
}

}  // namespace strata
