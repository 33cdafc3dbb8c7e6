#pragma once

#include "strata/allocation/choice_problem.h"

namespace strata {

// Of the allocators that solve an integer program, exact and quadratic.
struct ExactOptions : ChoiceSettings {
  ExactOptions() { relative_gap = 1e-4; }
};

}  // namespace strata
