#pragma once

#include <vector>

#include "strata/allocation/frontier.h"
#include "strata/report/line_chart.h"
#include "strata/report/table.h"

namespace strata {

// What the chart's sizes are counted in, in MiB: 1, or 1024 where they are large.
double frontier_unit_mib(const Frontier& frontier);

// Cost over size: the frontier, its knees (indices of its points), and one scheme everywhere beside them.
LineChart frontier_chart(const Frontier& frontier, const std::vector<size_t>& knees);

// A line for about every twentieth of the sizes, and for every knee.
Table frontier_table(const Frontier& frontier, const std::vector<size_t>& knees);

}  // namespace strata
