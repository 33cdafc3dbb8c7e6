#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace strata {

// A multiple-choice knapsack problem with several limits: choose one option of every group so that the chosen
// options' uses add up to at most each limit and their costs to as little as possible. Costs are finite, uses
// and limits are whole numbers; all sums must fit 2^53.
struct ChoiceOption {
  double cost = 0;
  std::vector<int64_t> use;  // one a limit
};

struct ChoiceProblem {
  std::vector<std::vector<ChoiceOption>> groups;
  std::vector<int64_t> limits;
};

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Costs that differ by less are treated as equal: dividing by it would overflow.
inline constexpr double kSmallestSpread = 1e-280;

struct ChoiceSolution {
  std::vector<int> chosen;  // an option index a group
  double cost = 0;
  double bound = 0;  // no choice can cost less

  // Relative distance of the cost to the bound, 0 when proven optimal.
  double gap() const;
};

struct ChoiceSettings {
  double relative_gap = 0;  // stop once gap() is at most this
  double seconds = 60;      // limit of the branch and bound
};

// Solves in four steps: the best multipliers of the limits give a Lagrangian bound; a greedy repair of the
// choice made at their prices gives a first solution; dynamic programming between these two proves the
// optimum unless sizes are too various; what is left open then, after removing every option whose reduced
// cost exceeds the distance, is searched by CBC. Nothing when no choice meets all limits. Deterministic
// unless the time limit strikes.
std::optional<ChoiceSolution> solve(const ChoiceProblem& problem, const ChoiceSettings& settings);

double cost_of(const ChoiceProblem& problem, const std::vector<int>& chosen);
bool meets_limits(const ChoiceProblem& problem, const std::vector<int>& chosen);

}  // namespace strata
