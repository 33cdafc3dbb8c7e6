#pragma once

#include "strata/allocation/plan.h"
#include "strata/allocation/scores.h"
#include "strata/report/heat_map.h"

namespace strata {

// The stored bits a weight of every matrix, layers downwards; a cell's hint has its scheme, its score, and
// what it costs in every scheme.
HeatMap plan_heat_map(const Scores& scores, const Plan& plan);

}  // namespace strata
