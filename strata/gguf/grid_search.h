#pragma once

#include "strata/gguf/grids.h"

namespace strata {

struct GridFields;

// How a type of grid blocks stores its scales and signs.
struct GridScaling {
  int sub_block;    // weights sharing a scale
  float unit;       // k
  bool even_signs;  // the number of minus signs of 8 weights must be even
};

// The fields with which a block comes nearest to 256 weights, with the instructions that the processor has.
// `importance` is in the order of the weights, of mean one; null for none.
//
// With a group's magnitudes a, weights w and a point g of the grid, the squared error under a scale s is
// S(w a a) - 2 s S(w g (a - s g / 2)): the nearest point has the largest last sum, the gain. It falls into
// those of the group's halves, of which there are few, and most first halves are ruled out at sight; so the
// nearest of all points is found exactly. Each sub-block gets a first scale, with levels not bound to the
// grid, then the best one for its nearest points; the block's unit is the one whose odd multiples fit these
// scales best; points are chosen again with the scales as stored, and the unit fitted to them in closed form.
void search_grid_block(const Grid& grid, const GridScaling& scaling, const float* weights,
                       const float* importance, GridFields& fields);

}  // namespace strata
