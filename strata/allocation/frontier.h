#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/allocation/allocator.h"

namespace strata {

// The least cost that a size allows, for all sizes at once.
struct FrontierPoint {
  uint64_t bytes = 0;          // stored, of all modules and boundaries
  double bits_per_weight = 0;  // stored, of the modules
  double cost = 0;
};

struct Frontier {
  // Ascending sizes, falling costs, convex: no plan of at most `bytes` costs less than `cost`, and between
  // two points none lies below the straight line from one to the other.
  std::vector<FrontierPoint> points;
  std::vector<std::pair<std::string, FrontierPoint>> uniform;  // one scheme everywhere, by its name
};

// One parametric solve of the multiple-choice problem: with a price of lambda a byte every class takes the
// option of lowest cost + lambda bytes, which is a corner of the lower convex hull of its options, and as
// lambda falls from infinity to 0 one class after the other moves to its next corner. Each choice on the way
// is optimal for its own size (Everett, 1963). Ties and boundaries of the options count, their budget does
// not, nor do costs that pairs have together. Throws Error when the scores do not cover a module.
Frontier frontier(const std::vector<AllocationModule>& modules, const Scores& scores,
                  const AllocatorOptions& options);

// Points from which on a byte buys much less than before: the local maxima of x-distance below the chord of
// log cost over size, both scaled to [0, 1] (Kneedle, Satopaa et al., 2011), that stand out from the valleys
// around them by at least 0.02. Indices, ascending; costs that are not positive are left out.
std::vector<size_t> knees(const std::vector<FrontierPoint>& points);

// The largest point of at most so many bytes; null where there is none.
const FrontierPoint* point_within(const Frontier& frontier, uint64_t bytes);

}  // namespace strata
