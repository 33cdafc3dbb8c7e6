#pragma once

#include <map>
#include <string>
#include <vector>

#include "strata/allocation/plan.h"
#include "strata/forward/decoder.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// The scheme of every tensor that a plan assigns one.
std::map<std::string, Scheme> schemes_of(const Plan& plan);

// Replaces tensors of a decoder by what quantizing and dequantizing leaves of them: the model that a file
// with these schemes would hold, without writing it. Tensors named earlier and not now are restored. The
// layers' matrices come from `calibrated` where it is given; `importance` and `row_impacts` are those of an
// ExportPlan.
void apply_schemes(Decoder& decoder, const std::map<std::string, Scheme>& schemes,
                   const QuantizerOptions& quantizer, CalibratedQuantizer* calibrated = nullptr,
                   const std::map<std::string, std::vector<float>>& importance = {},
                   const RowImpacts& row_impacts = {});

}  // namespace strata
