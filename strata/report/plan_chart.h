#pragma once

#include <string>

#include "strata/allocation/plan.h"
#include "strata/allocation/scores.h"

namespace strata {

// A line a layer: its score as a bar, its stored bits a weight, and the scheme of each module. Module scores
// are averaged over a layer. Without scores (a plan read from a file) the bars show the bits.
std::string plan_chart(const Scores& scores, const Plan& plan);

// A relative gap that a solver proved, in words: "the optimum, proven", "within 0.01 % of the optimum,
// proven".
std::string optimality(double gap);

// What was asked for and got: budget, stored bits of the layers, code bits, bytes, stored bits of embedding
// and head where they are known, allocator and its proven gap.
std::string plan_summary(const Plan& plan);

}  // namespace strata
