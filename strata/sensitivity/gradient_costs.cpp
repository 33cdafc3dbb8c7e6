#include "strata/sensitivity/gradient_costs.h"

#include <ATen/core/grad_mode.h>

#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"

namespace strata {

Scores score_by_gradients(const Model& model, const std::string& method, const SensitivityOptions& options,
                          const Evidence& evidence, const GradientCost& cost) {
  CostSheet sheet(model, method, options, evidence);
  GradientOptions gradients;
  gradients.device = options.device;
  gradients.boundaries = options.boundaries;
  GradientSums sums;
  const auto add = [&](const Module& module, int64_t, const at::Tensor& gradient) {
    if (!sheet.missing(module).empty()) sums.add(module, gradient);
  };
  const auto finish_layer = [&](int layer) {
    const at::NoGradGuard no_grad;
    for (const Module& module : sheet.modules())
      if (module.layer == layer)
        sheet.for_each_missing(module,
                               [&](size_t scheme, const at::Tensor& exact, const at::Tensor& quantized) {
                                 sheet.set(module, scheme, cost(sums, module, exact - quantized));
                               });
    sums.clear();
  };
  if (!sheet.is_complete()) for_each_gradient(model, *evidence.calibration, gradients, add, finish_layer);
  Scores scores = sheet.scores();
  describe_calibration(scores, evidence);
  return scores;
}

}  // namespace strata
