#pragma once

#include "strata/quantization/affine_tile.h"
#include "strata/quantization/scheme.h"

namespace strata {

// Half-quadratic quantization (Badri and Shaji 2023): without data, finds the zero point that lowers
// sum |w - w'|^p, p = 0.7, for a fixed scale, by alternating a shrinkage of the errors with the mean that
// solves for the zero point.

// Improves parameters.zeros, which hold a start, under parameters.scales (as stored) for every group of a
// tile. Each group makes up to `iterations` updates, fewer once its zero point has settled, and rolls back to
// the one with its lowest mean |w - w'|, the start included. The published code looks at the mean of the
// whole matrix instead and keeps the zero points of the last update, one past the best. With fp16 storage the
// result is the better of two fp16 neighbours.
void hqq_zeros(const float* values, int64_t length, const TileRange& range, const AffineScheme& scheme,
               int iterations, TileParameters& parameters);

// Symmetric groups have no zero point to improve. Instead, `iterations` smaller scales are tried, each 6 %
// below the one before, and the one with the lowest squared error is kept. (The norm p = 0.7 would not do
// here: with a free scale it clips large weights for the sake of small ones, and at 4 bits the squared error
// of real weights rises by two thirds.) parameters.scales hold the start.
void hqq_symmetric_scales(const float* values, int64_t length, const AffineScheme& scheme, int iterations,
                          TileParameters& parameters);

// Zero points that are codes are too coarse to improve alone, so scale and zero point are sought together:
// the same smaller scales are tried, each with the two codes between which the middle of the group's range
// puts its zero point, and the pair with the lowest squared error is kept. parameters.scales hold the start;
// scales and zeros are as stored afterwards.
void hqq_integer_zeros(const float* values, int64_t length, const TileRange& range,
                       const AffineScheme& scheme, int iterations, TileParameters& parameters);

}  // namespace strata
