#pragma once

#include <vector>

#include "strata/allocation/choice_problem.h"

namespace strata {

// The limits of a choice problem taken into the costs: an option's price is cost + multipliers . use.
struct Lagrangian {
  std::vector<double> multipliers;           // one a limit
  std::vector<int> chosen;                   // the lowest price of each group
  std::vector<std::vector<double>> reduced;  // price above the group's lowest, not negative
  double bound =
      0;  // sum of the lowest prices - multipliers . limits: no choice within the limits costs less
};

// `multipliers` (one a limit) must not be negative.
Lagrangian lagrangian(const ChoiceProblem& problem, const std::vector<double>& multipliers);

// Multipliers whose bound is the highest, which is the linear relaxation's, by Kelley's cutting planes
// (1960): each choice made at some multipliers is a plane above the concave bound, and the next multipliers
// are where the lowest of the planes is highest. Far smaller than the relaxation itself: a variable for each
// limit.
Lagrangian best_lagrangian(const ChoiceProblem& problem);

}  // namespace strata
