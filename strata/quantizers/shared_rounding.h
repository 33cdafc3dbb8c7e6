#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strata/model/model.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// Quantizing without calibration, layer by layer, its rows shared among the ranks (quantizers/row_pieces.h):
// it makes the matrices whose schemes have rows of their own, and leaves the others. `importance` is by
// tensor, as GGUF encoders take it; it and the model must outlive this.
std::shared_ptr<CalibratedQuantizer> share_rounding(
    const Model& model, const QuantizerOptions& quantizer,
    const std::map<std::string, std::vector<float>>& importance);

}  // namespace strata
