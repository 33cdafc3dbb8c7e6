#pragma once

#include <map>
#include <memory>
#include <string>

#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// Hands out matrices that are quantized already, each as often as it is asked for after begin(). begin()
// throws where it has none of a name, or in another scheme.
std::shared_ptr<CalibratedQuantizer> hand_out(std::map<std::string, QuantizedMatrix> matrices);

// A quantizer that keeps what it has handed out, so that it works but once where begin() is told the same
// schemes again.
std::shared_ptr<CalibratedQuantizer> remember(std::shared_ptr<CalibratedQuantizer> quantizer);

}  // namespace strata
