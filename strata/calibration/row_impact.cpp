#include "strata/calibration/row_impact.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "strata/calibration/gradients.h"
#include "strata/calibration/result_cache.h"
#include "strata/core/error.h"

namespace strata {
namespace {

class ImpactMeasurement {
 public:
  ImpactMeasurement(const Model& model, const Calibration& calibration, const std::filesystem::path& cache)
      : model_(model), calibration_(calibration) {
    if (!cache.empty())
      cache_ =
          ResultCache(cache, "row-impact",
                      {{"weights", weights_fingerprint(model)}, {"calibration", calibration.fingerprint}});
  }

  bool is_complete() const {
    return std::all_of(model_.modules.begin(), model_.modules.end(),
                       [&](const Module& module) { return is_stored(module); });
  }

  void run(at::Device device) {
    GradientOptions options;
    options.device = device;
    for_each_gradient(
        model_, calibration_, options,
        [&](const Module& module, int64_t, const at::Tensor& gradient) { add(module, gradient); },
        [&](int layer) { store(layer); });
  }

  RowImpacts impacts() const {
    RowImpacts impacts;
    for (const Module& module : model_.modules)
      impacts[module.tensor] = cache_.find(module.tensor)->get<std::vector<float>>();
    return impacts;
  }

 private:
  bool is_stored(const Module& module) const {
    const Json* found = cache_.find(module.tensor);
    return found != nullptr && found->is_array() && found->size() == static_cast<size_t>(module.rows) &&
           std::all_of(found->begin(), found->end(), [](const Json& value) { return value.is_number(); });
  }

  void add(const Module& module, const at::Tensor& gradient) {
    const at::NoGradGuard no_grad;
    const at::Tensor squares = gradient.square().mean(1).to(at::kDouble);
    at::Tensor& sum = sums_[module.tensor];
    sum = sum.defined() ? sum.add_(squares) : squares;
  }

  void store(int layer) {
    for (const Module& module : model_.modules) {
      if (module.layer != layer) continue;
      const at::Tensor mean =
          (sums_.at(module.tensor) / static_cast<double>(calibration_.blocks())).to(at::kCPU, at::kFloat);
      const std::vector<float> rows(mean.data_ptr<float>(), mean.data_ptr<float>() + mean.numel());
      if (!std::all_of(rows.begin(), rows.end(), [](float value) { return std::isfinite(value); }))
        fail("the gradient by {} is not finite on the calibration tokens; the model's activations overflow",
             module.tensor);
      if (!is_stored(module)) cache_.store(module.tensor, rows);
    }
    sums_.clear();
  }

  const Model& model_;
  const Calibration& calibration_;
  ResultCache cache_;
  std::map<std::string, at::Tensor> sums_;  // of one layer: [rows] double
};

}  // namespace

RowImpacts measure_row_impact(const Model& model, const Calibration& calibration, at::Device device,
                              const std::filesystem::path& cache) {
  if (calibration.tokens() == 0)
    fail(
        "the impact of rows is measured on calibration tokens, and there are none; give a text with --calib");
  ImpactMeasurement measurement(model, calibration, cache);
  if (!measurement.is_complete()) measurement.run(device);
  return measurement.impacts();
}

}  // namespace strata
