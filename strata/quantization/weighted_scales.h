#pragma once

#include "strata/quantization/affine_tile.h"
#include "strata/quantization/scheme.h"

namespace strata {

// Searches the fp16 scales and zero points (fp16, or codes with integer_zero) of a tile's groups that lower
// sum_k h_k (w_k - w'_k)^2, h one weight (not negative) for each of the `length` columns. Tries ranges that
// clip more or less of the group at either end, then fits scale and zero point to the codes of the best one
// by least squares. `parameters` hold the start (round-to-nearest's, as stored) and change only where the
// error falls; every candidate is judged as it would be stored.
void search_weighted_scales(const float* values, int64_t length, const float* column_weights,
                            const TileRange& range, const AffineScheme& scheme, TileParameters& parameters);

}  // namespace strata
