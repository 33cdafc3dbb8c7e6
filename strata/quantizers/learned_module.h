#pragma once

#include <ATen/ATen.h>

#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// A matrix of a layer while it is learned together with the layer's others. Every step asks for its weights
// and gives it the loss's gradient by them; now and then it is measured as it would be stored, and the best
// of that is kept.
class LearnedModule {
 public:
  virtual ~LearnedModule() = default;

  // What the start is dequantized to, what the layer runs with in the next step, and what would be stored
  // now: [rows, cols] on the device.
  virtual at::Tensor start_weights() = 0;
  virtual at::Tensor weights() = 0;
  virtual at::Tensor stored_weights() = 0;

  // Goes down along the loss's gradient [rows, cols] by the last weights(), when this part of the steps is
  // done, from 0 to 1.
  virtual void descend(const at::Tensor& gradient, double progress) = 0;

  virtual void keep() = 0;             // stored_weights() is the best so far
  virtual QuantizedMatrix best() = 0;  // what was kept last; the start where nothing was
};

}  // namespace strata
