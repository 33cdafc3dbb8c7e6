#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "strata/allocation/choice_problem.h"
#include "strata/allocation/lagrangian.h"

namespace strata {

struct LabelSearchResult {
  std::optional<std::vector<int>> chosen;  // the optimum, when it was found
  double bound = 0;                        // no choice within the limits costs less
};

// Dynamic programming over the groups, as for shortest paths with resource limits: a label is a partial
// choice with its uses and its reduced cost, and of labels with equal uses only the cheapest is kept.
// Matrices of a model have few distinct sizes, so there are few labels. A choice costs bound + reduced cost +
// multipliers . (limits - uses): labels above a distance from the bound are dropped, and the distance is
// doubled until a choice lies within it, which then is optimal, or reaches `cutoff`, or `most_labels` are
// exceeded; what was searched in vain raises the bound.
LabelSearchResult label_search(const ChoiceProblem& problem, const Lagrangian& start, double cutoff,
                               int64_t most_labels);

}  // namespace strata
