#pragma once

#include "strata/quantization/affine_tile.h"
#include "strata/quantization/scheme.h"

namespace strata {

// Half-quadratic quantization (Badri and Shaji 2023): without data, finds the zero point that lowers
// sum |w - w'|^p, p = 0.7, for a fixed scale, by alternating a shrinkage of the errors with the mean that
// solves for the zero point.

// Improves parameters.zeros, which hold a start, under parameters.scales for every group of a tile. Up to
// `iterations` updates; keeps for each group the zero point whose mean |w - w'| was the lowest, the start
// included. With fp16 zeros every candidate is rounded to fp16 before it is judged.
void hqq_zeros(const float* values, int64_t length, const TileRange& range, const AffineScheme& scheme,
               int iterations, TileParameters& parameters);

// Symmetric groups have no zero point to improve. Instead, `iterations` smaller scales are tried, each 6 %
// below the one before, and the one with the lowest sum |w - w'|^p is kept. parameters.scales hold the start.
void hqq_symmetric_scales(const float* values, int64_t length, const AffineScheme& scheme, int iterations,
                          TileParameters& parameters);

}  // namespace strata
