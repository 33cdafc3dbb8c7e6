#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "strata/forward/decoder.h"

namespace strata {

// How far a changed layer carries: squared distances from what the unchanged model gives.
class OutputLoss {
 public:
  virtual ~OutputLoss() = default;

  // What is compared, from the output [B, T, d] of a layer. May be called from several threads.
  virtual at::Tensor outcome(int layer, const at::Tensor& output) = 0;

  // ||a - b||_F^2 over two outcomes' values, a double on their device.
  virtual at::Tensor squared_distance(const at::Tensor& a, const at::Tensor& b) = 0;
};

// At the output of the layer itself.
std::unique_ptr<OutputLoss> make_layer_loss(const Model& model);  // which must outlive it

// At the model's logits, behind the other layers. Logits h E' are never computed: with G = E' E their squared
// distance is the sum of (a - b) G (a - b)'. Keeps the model's weights in memory on the device.
std::unique_ptr<OutputLoss> make_logits_loss(const Model& model, at::Device device, int64_t window);

}  // namespace strata
