#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "strata/model/model.h"
#include "strata/quantizers/layer_output_quantizer.h"
#include "strata/quantizers/learned_matrix.h"

namespace strata {

// A module's matrix being learned: one part, or those at low and high bits.
class LearnedModule {
 public:
  // weight: [rows, cols] float on the CPU. Learns on the device.
  LearnedModule(const Module& module, const Scheme& scheme, const at::Tensor& weight,
                const LayerOutputOptions& options);

  const Module& module() const { return module_; }
  const QuantizedMatrix& start() const { return start_; }  // what round-to-nearest or HQQ make of it

  std::vector<at::Tensor> parameters() const;
  at::Tensor weights();                     // [rows, cols], differentiable
  at::Tensor regularizer(double progress);  // a sum; undefined when there is none
  QuantizedMatrix stored() const;

 private:
  std::unique_ptr<LearnedMatrix> learn(const at::Tensor& rows, const AffineMatrix& start, bool high,
                                       const LayerOutputOptions& options) const;

  const Module& module_;
  QuantizedMatrix start_;
  std::unique_ptr<LearnedMatrix> low_, high_;  // null where there are no such rows
  at::Tensor place_of_row_;                    // in the low rows followed by the high ones
};

}  // namespace strata
