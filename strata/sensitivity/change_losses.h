#pragma once

#include <vector>

#include "strata/sensitivity/layer_losses.h"
#include "strata/sensitivity/method.h"

namespace strata {

// The measurements of high-impact parameter ratios (arXiv 2511.17801).
struct HighImpactOptions {
  int64_t tokens = 2048;  // of the calibration's, in whole blocks, that losses are measured on
  enum class Loss { Layer, Logits } loss = Loss::Layer;  // where: a layer's own output, or the model's logits
  bool interactions = true;  // also of every two modules of a layer; otherwise of single modules alone
};

// What replacing single modules and pairs of modules of one layer costs (arXiv 2511.17801), by
// options.schemes, modules numbered in the order of the layer: the mean over calibration sequences of ||f(x)
// - f'(x)||_F^2, where f is the layer's output or the model's logits and f' the same with the modules
// quantized.
struct ChangeLosses {
  std::vector<ChangeIndex> indices;         // of each layer
  std::vector<std::vector<double>> layers;  // [layer][index]

  double single(int layer, size_t module, size_t scheme) const {
    const auto l = static_cast<size_t>(layer);
    return layers[l][indices[l].single(module, scheme)];
  }

  // L(both) - L(first) - L(second), of either sign.
  double interaction(int layer, size_t module, size_t scheme, size_t later, size_t later_scheme) const {
    const auto l = static_cast<size_t>(layer);
    return layers[l][indices[l].pair(module, scheme, later, later_scheme)] - single(layer, module, scheme) -
           single(layer, later, later_scheme);
  }
};

// Measures them on the first sequences of the calibration that hold HighImpactOptions::tokens. Finished
// layers are saved in options.cache and found there by a later run.
ChangeLosses measure_change_losses(const Model& model, const SensitivityOptions& options,
                                   const Evidence& evidence);

}  // namespace strata
