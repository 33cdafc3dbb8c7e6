#pragma once

#include <cstdint>
#include <vector>

#include "strata/allocation/choice_problem.h"
#include "strata/core/matrix.h"

namespace strata {

// What the options of two elements cost together, [options of first, options of second]; of either sign.
struct PairTable {
  size_t first = 0, second = 0;
  Matrix<double> costs;
};

// Elements of which one option each is to be chosen, and whose costs interact: a choice costs the options'
// own costs and, for every pair of elements that is listed, an entry of its table.
struct CoupledBlock {
  std::vector<std::vector<ChoiceOption>> elements;  // at least one
  std::vector<PairTable> pairs;
};

// Options of all elements, and what they cost and use together.
struct BlockChoice {
  std::vector<int> chosen;
  ChoiceOption total;
};

// Blocks of more choices are not enumerated: it would take seconds, and their front could fill the memory.
inline constexpr uint64_t kMostBlockChoices = uint64_t{1} << 24;

// Number of choices of a block, at most kMostBlockChoices + 1.
uint64_t count_choices(const CoupledBlock& block);

double cost_of(const CoupledBlock& block, const std::vector<int>& chosen);

// All choices that no other choice beats or equals in cost and in every use: whatever else shares the limits,
// the cheapest choice within them is one of these. Enumerates them all: 7 elements of 5 options, 78,125
// choices, in two milliseconds. Of equal choices the first in lexicographic order is kept. In rising order
// of the first use. At most 4 uses.
std::vector<BlockChoice> pareto_front(const CoupledBlock& block);

}  // namespace strata
