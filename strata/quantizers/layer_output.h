#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "strata/calibration/activations.h"

namespace strata {

// The error of one layer's output while its matrices change: the mean squared distance between what the layer
// gives on one stream's hidden states and where another stream stands.
//
// On a CPU every block of tokens is a task of one thread, and what the blocks give is added in their order,
// so that results depend on neither the number of threads nor on who is first. A GPU takes blocks together.
class LayerOutput {
 public:
  // `inputs` stands before the layer, `targets` behind it; both must outlive this and stay. The layer's
  // weights are the inputs' decoder's, but for those of the named matrices.
  LayerOutput(ActivationStream& inputs, const ActivationStream& targets, std::vector<std::string> matrices);

  // With these weights, [rows, cols] each in the order of the names, over these blocks.
  double error(const std::vector<at::Tensor>& weights, const std::vector<int64_t>& blocks) const;

  // The gradient of that error, in its type, by each of the weights. Nothing waits for a GPU in here.
  std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& weights,
                                    const std::vector<int64_t>& blocks) const;

 private:
  LayerRun with(const std::vector<at::Tensor>& weights) const;
  std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& weights,
                                       const std::vector<int64_t>& blocks, double scale) const;
  at::Tensor output(const LayerRun& run, const std::vector<int64_t>& blocks) const;  // hidden states
  at::Tensor target(const std::vector<int64_t>& blocks) const;
  static at::Tensor read(const ActivationStream& stream, const std::vector<int64_t>& blocks);

  const ActivationStream &inputs_, &targets_;
  std::vector<std::string> matrices_;
  LayerRun run_;
  bool on_cpu_;
};

}  // namespace strata
