#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "strata/calibration/calibration.h"
#include "strata/calibration/hidden_states.h"
#include "strata/model/model.h"

namespace strata {

struct GradientOptions {
  at::Device device = at::kCPU;
  int64_t memory_limit = int64_t{2} << 30;  // bytes of hidden states kept in memory, all layers together
  std::vector<Module> boundaries;           // embedding and head, where their gradients are to be seen too
};

// Sees dLoss/dW of one module, [out, in] float on the device, for one block of tokens, where Loss is the
// block's mean next-token cross-entropy in nats. The tensor is overwritten after the call.
using SeeGradient = std::function<void(const Module& module, int64_t block, const at::Tensor& gradient)>;

// Called after the last block of a layer, and with kNoLayer after that of the boundaries.
using LayerDone = std::function<void(int layer)>;

// Gradients of the loss by every linear module, layer by layer from the last to the first and block by block
// within a layer. One layer's weights are in memory at a time; each layer runs again for its own backward
// pass, from the hidden states that the forward pass left before it. The boundaries follow, one after the
// other; a matrix that is embedding and head has the sum of both gradients. Gives the mean loss over the
// blocks.
double for_each_gradient(const Model& model, const Calibration& calibration, const GradientOptions& options,
                         const SeeGradient& see, const LayerDone& layer_done = nullptr);

// Sums over the blocks of one layer's gradients, and of their squares.
class GradientSums {
 public:
  void add(const Module& module, const at::Tensor& gradient);
  const at::Tensor& sum(const Module& module) const { return entry(module).sum; }
  const at::Tensor& sum_of_squares(const Module& module) const { return entry(module).squares; }
  int64_t blocks(const Module& module) const { return entry(module).blocks; }
  void clear() { entries_.clear(); }

 private:
  struct Entry {
    at::Tensor sum, squares;
    int64_t blocks = 0;
  };
  const Entry& entry(const Module& module) const { return entries_.at(module.tensor); }

  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace strata
