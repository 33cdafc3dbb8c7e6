#include "strata/quantizers/layer_by_layer.h"

#include <algorithm>
#include <utility>

#include "strata/core/error.h"

namespace strata {

void LayerByLayerQuantizer::begin(const std::map<std::string, Scheme>& schemes) {
  for (const auto& [tensor, scheme] : schemes)
    if (std::none_of(model_.modules.begin(), model_.modules.end(),
                     [&, &name = tensor](const Module& module) { return module.tensor == name; }))
      fail("{} has no matrix {} in its layers to be quantized as {}", model_.path.string(), tensor,
           scheme.name());
  schemes_ = schemes;
  finished_.clear();
  next_layer_ = 0;
  start();
}

QuantizedMatrix LayerByLayerQuantizer::take(const std::string& tensor) {
  const auto module = std::find_if(model_.modules.begin(), model_.modules.end(),
                                   [&](const Module& m) { return m.tensor == tensor; });
  if (module == model_.modules.end() || planned(*module) == nullptr)
    fail("{} was not among the matrices to be quantized", tensor);
  for (; next_layer_ <= module->layer; ++next_layer_) quantize_layer(next_layer_);
  const auto found = finished_.find(tensor);
  if (found == finished_.end()) fail("{} has been handed out already", tensor);
  QuantizedMatrix matrix = std::move(found->second);
  finished_.erase(found);
  return matrix;
}

void LayerByLayerQuantizer::take_all() {
  for (const Module& module : model_.modules)  // layer by layer
    if (planned(module) != nullptr) take(module.tensor);
}

void LayerByLayerQuantizer::finish(const Module& module, QuantizedMatrix matrix) {
  finished_[module.tensor] = std::move(matrix);
}

const Scheme* LayerByLayerQuantizer::planned(const Module& module) const {
  const auto found = schemes_.find(module.tensor);
  return found == schemes_.end() ? nullptr : &found->second;
}

}  // namespace strata
