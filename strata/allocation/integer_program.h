#pragma once

#include <optional>
#include <vector>

#include "strata/allocation/choice_problem.h"

namespace strata {

struct BranchAndBoundResult {
  enum class Status { Finished, OutOfTime } status = Status::Finished;
  std::optional<std::vector<int>> chosen;  // the best choice found below the cutoff
  double bound = 0;                        // OutOfTime: no choice can cost less
};

// Searches by COIN-OR CBC for choices that cost less than `cutoff`, until the best one is within
// `absolute_gap` of the optimum. Finished without a choice means that none costs less than the cutoff.
BranchAndBoundResult branch_and_bound(const ChoiceProblem& problem, double cutoff, double absolute_gap,
                                      double seconds);

}  // namespace strata
