#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace strata {

// Adam (Kingma and Ba 2015, arXiv 1412.6980) with the paper's constants, on parameters that require
// gradients.
class Adam {
 public:
  Adam(std::vector<at::Tensor> parameters, double learning_rate);

  // Moves the parameters against their gradients, which are then cleared.
  void step();

 private:
  std::vector<at::Tensor> parameters_, means_, squares_;
  double learning_rate_;
  int64_t steps_ = 0;
};

}  // namespace strata
