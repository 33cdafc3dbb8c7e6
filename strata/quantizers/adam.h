#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace strata {

struct AdamOptions {
  double learning_rate = 0.001;
  double beta1 = 0.9, beta2 = 0.999;
};

// Adam (Kingma and Ba 2015, arXiv 1412.6980), by default with the paper's constants, on parameters that
// require gradients.
class Adam {
 public:
  Adam(std::vector<at::Tensor> parameters, const AdamOptions& options);

  // Moves the parameters against their gradients, which are then cleared.
  void step();

  void set_learning_rate(double rate) { options_.learning_rate = rate; }

  // What it remembers of the steps so far, to be kept and taken up again: the means of gradients and of their
  // squares, like the parameters.
  struct State {
    std::vector<at::Tensor> means, squares;
    int64_t steps = 0;
  };
  const State& state() const { return state_; }
  void resume(State state) { state_ = std::move(state); }

 private:
  std::vector<at::Tensor> parameters_;
  AdamOptions options_;
  State state_;
};

}  // namespace strata
