#pragma once

#include "strata/vision/onnx.h"

namespace strata::vision {

// Cross-layer equalization (Nagel et al. 2019, section 4.1) of a simplified model: where one layer feeds only
// the next, directly or through Relu or Clip(0, c), channel i's weights are divided by s_i = sqrt(r1_i /
// r2_i) in the first and multiplied by it in the second, which makes the channel's ranges r1 and r2 equal.
// The function stays the same: a Clip becomes Relu and Min with the bound c / s_i of each channel. Returns
// the number of pairs.
int equalize(OnnxModel& model);

}  // namespace strata::vision
