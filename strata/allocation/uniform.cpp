#include <algorithm>
#include <numeric>

#include "strata/allocation/problem.h"

namespace strata {
namespace {

// The menu from small to large, one scheme of each size: where two have the same size, the cheaper one if
// both have a cost, otherwise the first.
std::vector<int> sizes_of_menu(const AllocationProblem& problem) {
  const auto is_cheaper = [&](const Scheme& a, const Scheme& b) {
    double difference = 0;
    for (size_t m = 0; m < problem.modules.size(); ++m) {
      const auto cost_a = problem.costs.cost(m, a), cost_b = problem.costs.cost(m, b);
      if (!cost_a || !cost_b) return false;
      difference += *cost_a - *cost_b;
    }
    return difference < 0;
  };
  std::vector<int> order(problem.menu.size());
  std::iota(order.begin(), order.end(), 0);
  const auto bits = [&](int s) { return problem.total_of_scheme(s)[kStoredBits]; };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return bits(a) < bits(b); });
  std::vector<int> sizes;
  for (int s : order) {
    if (sizes.empty() || bits(sizes.back()) != bits(s))
      sizes.push_back(s);
    else if (is_cheaper(problem.menu[s], problem.menu[sizes.back()]))
      sizes.back() = s;
  }
  return sizes;
}

}  // namespace

Allocation allocate_uniform(const AllocationProblem& problem) {
  const std::vector<int> sizes = sizes_of_menu(problem);
  Use smallest = problem.total_of_scheme(sizes.front());
  size_t fitting = sizes.size();
  for (size_t i = 0; i < sizes.size(); ++i) {
    const Use use = problem.total_of_scheme(sizes[i]);
    for (size_t r = 0; r < use.size(); ++r) smallest[r] = std::min(smallest[r], use[r]);
    if (problem.limits.allow(use)) fitting = i;
  }
  problem.limits.check_smallest(smallest, problem.possible_with());
  if (fitting == sizes.size()) problem.fail_together();

  const std::vector<int> low(problem.classes.size(), sizes[fitting]);
  if (fitting + 1 == sizes.size()) return {low, std::nullopt};
  const std::vector<int> high(problem.classes.size(), sizes[fitting + 1]);
  return {problem.fill_in_layer_order(low, high), std::nullopt};
}

}  // namespace strata
