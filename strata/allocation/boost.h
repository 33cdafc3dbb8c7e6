#pragma once

#include <vector>

#include "strata/allocation/allocator.h"

namespace strata {

enum class Differences { Subtract, Divide };  // of neighbouring scores: KurtBoost's, SensiBoost's

struct BoostOptions {
  Differences differences = Differences::Subtract;
  double base = 3.13;   // rung of the ladder, by its bits per weight as the papers round it
  int stop = 2;         // rungs a chosen module climbs
  int top = 2;          // outliers kept per role; 0 = all
  bool rebase = false;  // choose the base so that base and boosts meet the budget
};

// The outlier rule of SensiBoost and KurtBoost (arXiv 2503.06518) for one role, whose layers 0 .. n-1 have
// these scores: differences D_i = s_{i+1} / s_i (Divide) or s_{i+1} - s_i (Subtract); mean and sample
// deviation of D without its floor(0.05 (n-1)) smallest and largest values; z_i = |D_i - mean| / deviation.
// Returns the layers i + 1 of z_i > 3 in falling order of z, at most `top` of them (0 = all). Layer 0 is
// never among them.
std::vector<int> outlying_layers(const std::vector<double>& scores, Differences differences, int top);

}  // namespace strata
