#pragma once

#include <cstdint>

#include "strata/vision/onnx.h"

namespace strata::vision {

// Raises the operator set to `opset`, which is 13 or 21, without changing what the model computes: attributes
// that became inputs move, and operators whose meaning changed are replaced by what computes the same. Throws
// Error naming the node where that is not known to be possible.
void raise_opset(OnnxModel& model, int64_t opset);

}  // namespace strata::vision
