#pragma once

#include <optional>
#include <vector>

#include "strata/allocation/choice_problem.h"
#include "strata/allocation/lagrangian.h"

namespace strata {

// A choice within the limits that is usually close to the best: the choice of the lowest prices, repaired
// where it exceeds a limit, then improved by single moves and by pairs of them. Nothing where the repair gets
// stuck.
std::optional<std::vector<int>> first_choice(const ChoiceProblem& problem, const Lagrangian& start);

}  // namespace strata
