#pragma once

#include <vector>

namespace strata {

// InfoQ's score (arXiv 2508.04753) of a layer with `bits`: (1 / bits) mean_j |I(j) - I'(j)| / mean_j I(j)
// over the observers j that were read, from the information before and after; NaN marks those that were not.
// Without the inverse width the factor is 1.
double information_loss(const std::vector<double>& reference, const std::vector<double>& probed, double bits,
                        bool inverse_width);

}  // namespace strata
