#include "strata/allocation/choice_problem.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "strata/allocation/first_choice.h"
#include "strata/allocation/integer_program.h"
#include "strata/allocation/label_search.h"
#include "strata/allocation/lagrangian.h"

namespace strata {
namespace {

// A problem with some options left out, and what the remaining ones were called.
struct Reduced {
  ChoiceProblem problem;
  std::vector<std::vector<int>> original;  // option index before, for each group and option

  std::vector<int> restore(const std::vector<int>& chosen) const {
    std::vector<int> result;
    for (size_t g = 0; g < chosen.size(); ++g) result.push_back(original[g][chosen[g]]);
    return result;
  }
};

template <class Keep>
Reduced filter_options(const ChoiceProblem& problem, const Keep& keep) {
  Reduced reduced;
  reduced.problem.limits = problem.limits;
  for (size_t g = 0; g < problem.groups.size(); ++g) {
    auto& options = reduced.problem.groups.emplace_back();
    auto& original = reduced.original.emplace_back();
    for (size_t o = 0; o < problem.groups[g].size(); ++o) {
      if (!keep(g, o)) continue;
      options.push_back(problem.groups[g][o]);
      original.push_back(static_cast<int>(o));
    }
  }
  return reduced;
}

// a is no worse than b in anything, and better in something or listed first.
bool dominates(const ChoiceOption& a, const ChoiceOption& b, bool a_is_first) {
  if (a.cost > b.cost) return false;
  bool better = a.cost < b.cost;
  for (size_t l = 0; l < a.use.size(); ++l) {
    if (a.use[l] > b.use[l]) return false;
    better = better || a.use[l] < b.use[l];
  }
  return better || a_is_first;
}

Reduced remove_dominated(const ChoiceProblem& problem) {
  return filter_options(problem, [&](size_t g, size_t o) {
    const auto& group = problem.groups[g];
    for (size_t other = 0; other < group.size(); ++other)
      if (other != o && dominates(group[other], group[o], other < o)) return false;
    return true;
  });
}

// Counts every limit from its groups' smallest uses and in its largest common unit: small numbers keep the
// solver's rounding far from one unit.
void shrink_units(ChoiceProblem& problem) {
  for (size_t l = 0; l < problem.limits.size(); ++l) {
    int64_t unit = 0;
    for (auto& group : problem.groups) {
      int64_t smallest = group.front().use[l];
      for (const ChoiceOption& option : group) smallest = std::min(smallest, option.use[l]);
      problem.limits[l] -= smallest;
      for (ChoiceOption& option : group) unit = std::gcd(unit, option.use[l] -= smallest);
    }
    if (unit <= 1) continue;
    problem.limits[l] = problem.limits[l] < 0 ? -1 : problem.limits[l] / unit;
    for (auto& group : problem.groups)
      for (ChoiceOption& option : group) option.use[l] /= unit;
  }
}

// Proves the optimum below a first solution where sizes repeat, as those of a model's matrices do; else
// raises the bound.
void search_labels(const ChoiceProblem& problem, const Lagrangian& start, ChoiceSolution& best) {
  constexpr int64_t kMostLabels = 4'000'000;
  const LabelSearchResult found = label_search(problem, start, best.cost, kMostLabels);
  if (found.chosen) {
    const double cost = cost_of(problem, *found.chosen);
    if (cost < best.cost) best = {*found.chosen, cost, found.bound};
  }
  best.bound = std::min(best.cost, std::max(best.bound, found.bound));
}

// What branch and bound adds to a first solution (or to none) and the Lagrangian bound.
void search(const ChoiceProblem& problem, const Lagrangian& start, const ChoiceSettings& settings,
            std::optional<ChoiceSolution>& best) {
  const double allowed = best ? settings.relative_gap * std::abs(best->cost) : 0;
  const double cutoff = best ? best->cost - allowed : kInfinity;
  // Every choice with this option costs at least bound + reduced cost.
  const Reduced open = filter_options(
      problem, [&](size_t g, size_t o) { return start.bound + start.reduced[g][o] <= cutoff; });
  const BranchAndBoundResult found = branch_and_bound(open.problem, cutoff, allowed, settings.seconds);
  if (found.chosen) {
    const std::vector<int> chosen = open.restore(*found.chosen);
    const double cost = cost_of(problem, chosen);
    if (meets_limits(problem, chosen) && (!best || cost < best->cost))
      best = {chosen, cost, best ? best->bound : start.bound};
  }
  if (!best) return;
  const bool finished = found.status == BranchAndBoundResult::Status::Finished;
  const double searched = finished ? best->cost - allowed : std::min(found.bound, best->cost);
  best->bound = std::max(best->bound, searched);
}

std::optional<ChoiceSolution> solve_reduced(ChoiceProblem problem, const ChoiceSettings& settings) {
  shrink_units(problem);
  for (int64_t limit : problem.limits)
    if (limit < 0) return std::nullopt;
  const Lagrangian start = best_lagrangian(problem);

  std::optional<ChoiceSolution> best;
  if (const auto chosen = first_choice(problem, start)) {
    const double cost = cost_of(problem, *chosen);
    best = {*chosen, cost, std::min(start.bound, cost)};
  }
  if (best && best->gap() > 0) search_labels(problem, start, *best);
  if (!best || best->gap() > settings.relative_gap) search(problem, start, settings, best);
  return best;
}

}  // namespace

double ChoiceSolution::gap() const {
  if (bound >= cost) return 0;
  return (cost - bound) / std::max(std::abs(cost), std::numeric_limits<double>::min());
}

double cost_of(const ChoiceProblem& problem, const std::vector<int>& chosen) {
  double cost = 0;
  for (size_t g = 0; g < chosen.size(); ++g) cost += problem.groups[g][chosen[g]].cost;
  return cost;
}

bool meets_limits(const ChoiceProblem& problem, const std::vector<int>& chosen) {
  for (size_t l = 0; l < problem.limits.size(); ++l) {
    int64_t use = 0;
    for (size_t g = 0; g < chosen.size(); ++g) use += problem.groups[g][chosen[g]].use[l];
    if (use > problem.limits[l]) return false;
  }
  return true;
}

std::optional<ChoiceSolution> solve(const ChoiceProblem& problem, const ChoiceSettings& settings) {
  const Reduced reduced = remove_dominated(problem);
  auto solution = solve_reduced(reduced.problem, settings);
  if (solution) solution->chosen = reduced.restore(solution->chosen);
  return solution;
}

}  // namespace strata
