#pragma once

#include <optional>
#include <string>
#include <vector>

#include "strata/allocation/allocator.h"
#include "strata/allocation/choice_problem.h"
#include "strata/allocation/costs.h"
#include "strata/allocation/limits.h"

namespace strata {

// What every allocator is given: tied modules as classes in layer order, a menu of schemes, and what each
// class takes in each scheme. The options' boundaries are modules like the others, each a class of its own.
struct AllocationProblem {
  AllocationProblem(const std::vector<AllocationModule>& all_modules, const Scores& file_scores,
                    const AllocatorOptions& all_options);

  std::vector<AllocationModule> modules;
  const Scores& scores;
  const AllocatorOptions& options;
  CostTable costs;
  std::vector<Scheme> menu;
  std::vector<std::vector<size_t>> classes;  // indices of modules
  std::vector<std::vector<Use>> uses;        // by class and scheme
  Limits limits;

  Use total(const std::vector<int>& chosen) const;
  Use total_of_scheme(size_t scheme) const;  // everywhere
  std::string possible_with() const;         // "the schemes w2g64, w3g64" and the ties

  // Every class in its largest scheme.
  std::vector<int> largest() const;

  // Throws UsageError where a limit is below what every class in its smallest scheme takes.
  void check_each_limit() const;

  // Throws UsageError for limits that can be met one by one but not together.
  [[noreturn]] void fail_together() const;

  // Moves classes, in layer order, from their first choice to the second where the limits allow it.
  std::vector<int> fill_in_layer_order(std::vector<int> from, const std::vector<int>& to) const;
};

// The part of a layer that a module belongs to where runtimes fuse matrices: "self_attn.qkv", "mlp.gate_up",
// "experts" for all matrices of all experts, or the module's own name.
std::string fused_part(const std::string& module);

// As costs and uses to choose from: a group for every class, an option for every scheme of the menu.
ChoiceProblem choice_problem(const AllocationProblem& problem);

// An index into the menu for every class, and the optimality gap where one was proven.
struct Allocation {
  std::vector<int> chosen;
  std::optional<double> gap;
  std::optional<double> cost = std::nullopt;  // where it is not the sum of the modules' costs
};

// The allocators, one file each.

// One scheme everywhere where that is what fits, or else the mixture of the two neighbouring schemes that
// meets the budget: the first layers get the larger one. Of schemes of the same size the more exact one is
// used.
Allocation allocate_uniform(const AllocationProblem& problem);

// NSDS (arXiv 2603.17354), step 6: layers by score; the most sensitive take the largest scheme of the menu
// and all others the smallest, as many whole layers as the budget allows.
Allocation allocate_by_rank(const AllocationProblem& problem);

// SensiBoost and KurtBoost (arXiv 2503.06518): outlying modules climb the ladder from a common base.
Allocation allocate_boost(const AllocationProblem& problem);
Options boost_options(OptionValues& values);

// Minimal total cost, solved to a proven gap.
Allocation allocate_exact(const AllocationProblem& problem);
Options exact_options(OptionValues& values);

// The same with the costs that pairs of modules have together (Scores::pair_costs,
// QuadraticOptions::interactions). Throws UsageError where more modules have costs together, directly or
// through others, than can be enumerated (kMostBlockChoices).
Allocation allocate_quadratic(const AllocationProblem& problem);
Options quadratic_options(OptionValues& values);

}  // namespace strata
