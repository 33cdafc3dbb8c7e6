#pragma once

#include "strata/core/matrix.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// A matrix on the plain grid that learning starts from: scales and zero points chosen by search for the least
// squared error under the mean squares of the inputs (cols values; null: as if all were equal), every code
// the nearest one. Second-level scales and groups across rows are HQQ's. row_impact: as in QuantizerOptions.
QuantizedMatrix search_grid(MatrixView<const float> weights, const Scheme& scheme, const float* mean_squares,
                            const float* row_impact);

// The same for every matrix of a stack, with mean squares of its own.
QuantizedMatrix search_grids(MatrixView<const float> weights, int64_t matrices, const Scheme& scheme,
                             const float* mean_squares, const float* row_impact);

}  // namespace strata
