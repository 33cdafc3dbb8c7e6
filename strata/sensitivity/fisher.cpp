#include <ATen/core/grad_mode.h>

#include "strata/calibration/gradients.h"
#include "strata/device/products.h"
#include "strata/sensitivity/gradient_costs.h"
#include "strata/sensitivity/methods.h"

namespace strata {

// sum over weights of E[g^2] (w - w')^2, where g is the gradient of a block's mean loss and the mean goes
// over blocks: the change of the loss to second order with the diagonal of the empirical Fisher information
// in the place of the Hessian.
Scores score_fisher(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  return score_by_gradients(model, "fisher", options, evidence,
                            [](const GradientSums& sums, const Module& module, const at::Tensor& difference) {
                              const at::Tensor weighed = sums.sum_of_squares(module) * difference.square();
                              return total(weighed) / static_cast<double>(sums.blocks(module));
                            });
}

}  // namespace strata
