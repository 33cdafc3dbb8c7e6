#include <cmath>

#include "strata/calibration/gradients.h"
#include "strata/device/products.h"
#include "strata/sensitivity/gradient_costs.h"
#include "strata/sensitivity/methods.h"

namespace strata {

// |<g, W - W'>| with the gradient g of the mean loss: the change of the loss to first order (LLM-MQ, NeurIPS
// 2023 workshop on efficient natural language and speech processing).
Scores score_llm_mq(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  return score_by_gradients(model, "llm-mq", options, evidence,
                            [](const GradientSums& sums, const Module& module, const at::Tensor& difference) {
                              const double product = total(sums.sum(module) * difference);
                              return std::abs(product) / static_cast<double>(sums.blocks(module));
                            });
}

}  // namespace strata
