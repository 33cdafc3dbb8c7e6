#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "strata/calibration/gradients.h"
#include "strata/sensitivity/method.h"

namespace strata {

// The cost of an error W - W' [out, in], given the sums of its module's gradients over the blocks.
using GradientCost =
    std::function<double(const GradientSums& sums, const Module& module, const at::Tensor& difference)>;

// Costs of every (module, scheme) that follow from the gradients of the calibration's loss.
Scores score_by_gradients(const Model& model, const std::string& method, const SensitivityOptions& options,
                          const Evidence& evidence, const GradientCost& cost);

}  // namespace strata
