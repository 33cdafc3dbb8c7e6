#pragma once

#include <cstddef>
#include <cstdint>

#include "strata/gguf/type.h"

namespace strata {

// Encodes one row in IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S or IQ4_XS on the calling thread; `importance` is
// in the order of the columns, of mean one in every block; null for none.
//
// With a group's magnitudes a, weights w and a point g of the grid, the squared error under a scale s is
// S(w a a) - 2 s S(w g (a - s g / 2)): the nearest point has the largest last sum, the gain. It falls into
// those of the group's halves, of which there are few, and most first halves are ruled out at sight; so the
// nearest of all points is found exactly. Each sub-block gets a first scale, with levels not bound to the
// grid, then the best one for its nearest points; the block's unit is the one whose odd multiples fit these
// scales best; points are chosen again with the scales as stored, and the unit fitted to them in closed form.
void encode_grid_row(GgufType type, const float* weights, int64_t cols, const float* importance,
                     std::byte* blocks);

}  // namespace strata
