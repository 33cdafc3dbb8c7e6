#include "strata/model/boundary_modules.h"

namespace strata {

std::vector<Module> boundary_modules(const Model& model) {
  std::vector<Module> boundaries;
  const auto add = [&](const std::string& name, const std::string& tensor) {
    const TensorInfo* info = model.checkpoint->find(tensor);
    if (info == nullptr || info->shape.size() != 2) return;
    Module module;
    module.layer = kNoLayer;
    module.name = name;
    module.tensor = tensor;
    module.rows = info->rows();
    module.cols = info->cols();
    boundaries.push_back(std::move(module));
  };
  const bool tied = model.head == model.embedding;
  add(tied ? "embedding+head" : "embedding", model.embedding);
  if (!tied) add("head", model.head);
  return boundaries;
}

}  // namespace strata
