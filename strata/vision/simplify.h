#pragma once

#include "strata/vision/onnx.h"

namespace strata::vision {

// Rewrites a model into an equal one of fewer nodes: Constant nodes and what can be computed from constants
// alone become constants; Identity and Dropout go; real numbers of
// other types become float32, with a Cast at inputs and outputs; the factors of products go into their
// weights; batch normalization is folded into the convolution or product before it (Jacob et al. 2018,
// equation 14) where that feeds nothing else; constants that several nodes share as weight or bias are
// copied, and those that nothing needs go.
void simplify(OnnxModel& model);

}  // namespace strata::vision
