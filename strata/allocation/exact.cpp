#include "strata/allocation/exact.h"
#include "strata/allocation/problem.h"

namespace strata {
namespace {

// Gives what the budget leaves to larger schemes that cost no more.
void spend_the_rest(const AllocationProblem& problem, const ChoiceProblem& choices,
                    std::vector<int>& chosen) {
  Use use = problem.total(chosen);
  for (size_t c = 0; c < chosen.size(); ++c)
    for (size_t s = 0; s < problem.menu.size(); ++s) {
      const auto current = static_cast<size_t>(chosen[c]);
      const double now = choices.groups[c][current].cost, then = choices.groups[c][s].cost;
      const bool is_larger = problem.uses[c][s][kStoredBytes] > problem.uses[c][current][kStoredBytes];
      if (then > now || (then == now && !is_larger)) continue;
      Use moved = use;
      moved -= problem.uses[c][current];
      moved += problem.uses[c][s];
      if (!problem.limits.allow(moved)) continue;
      use = moved;
      chosen[c] = static_cast<int>(s);
    }
}

}  // namespace

ChoiceProblem choice_problem(const AllocationProblem& problem) {
  ChoiceProblem choices;
  for (const Limit& limit : problem.limits.list()) choices.limits.push_back(limit.amount);
  for (size_t c = 0; c < problem.classes.size(); ++c) {
    auto& group = choices.groups.emplace_back();
    for (size_t s = 0; s < problem.menu.size(); ++s) {
      ChoiceOption option;
      for (size_t m : problem.classes[c]) option.cost += problem.costs.required(m, problem.menu[s]);
      for (const Limit& limit : problem.limits.list())
        option.use.push_back(problem.uses[c][s][limit.resource]);
      group.push_back(std::move(option));
    }
  }
  return choices;
}

Options exact_options(OptionValues& values) {
  ExactOptions& settings = values.get<ExactOptions>();
  return {number("gap", settings.relative_gap, 0.0, 1.0, "optimality gap to prove"),
          positive("time-limit", settings.seconds, "seconds for the solver")};
}

Allocation allocate_exact(const AllocationProblem& problem) {
  problem.check_each_limit();
  const ChoiceProblem choices = choice_problem(problem);
  auto solution = solve(choices, problem.options.own.get<ExactOptions>());
  if (!solution) problem.fail_together();
  spend_the_rest(problem, choices, solution->chosen);
  solution->cost = cost_of(choices, solution->chosen);
  return {solution->chosen, solution->gap()};
}

}  // namespace strata
