#pragma once

#include <ATen/ATen.h>

#include <filesystem>

#include "strata/calibration/calibration.h"
#include "strata/model/model.h"
#include "strata/quantization/mixed_rows.h"

namespace strata {

// The impact of every output row of every linear module: the mean over the row's weights of E[g^2], the
// diagonal of the empirical Fisher information, where g is the gradient of a calibration block's mean
// next-token cross-entropy and the mean goes over blocks (arXiv 2511.17801). One pass forwards and one
// backwards. With a directory the rows of a layer are saved there as they come, and a later run that finds
// all of them needs no gradients. Throws where there are no tokens.
RowImpacts measure_row_impact(const Model& model, const Calibration& calibration, at::Device device,
                              const std::filesystem::path& cache = {});

}  // namespace strata
