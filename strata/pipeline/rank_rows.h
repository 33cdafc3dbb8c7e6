#pragma once

#include <map>
#include <string>

#include "strata/model/model.h"
#include "strata/quantization/scheme.h"
#include "strata/sensitivity/method.h"

namespace strata {

// Measures which rows have high bits (SensitivityOptions::row_impacts) where a scheme mixes rows and
// calibration tokens are given, and reads these where they have not been.
void rank_rows(const Model& model, const std::map<std::string, Scheme>& schemes,
               SensitivityOptions& sensitivity);

}  // namespace strata
