#pragma once

#include <string>
#include <vector>

#include "strata/pipeline/compare.h"
#include "strata/report/html_page.h"
#include "strata/report/line_chart.h"
#include "strata/report/table.h"

namespace strata {

// One line a cell, the texts side by side.
Table comparison_table(const Comparison& comparison);

// Rank correlation of every score with the measured loss of the layers.
Table correlation_table(const Comparison& comparison);

// Perplexity and KL divergence over stored bits a weight: two charts a text, a curve for every method (and
// quantizer, where there are several).
std::vector<LineChart> comparison_charts(const Comparison& comparison);

// All of it as one page.
std::string comparison_page(const Comparison& comparison, const std::string& model);

}  // namespace strata
