#include "strata/report/plan_place.h"

#include <cctype>

namespace strata {

PlanPlace place_of(const std::string& tensor) {
  for (size_t dot = tensor.find('.'); dot != std::string::npos; dot = tensor.find('.', dot + 1)) {
    size_t end = dot + 1;
    while (end < tensor.size() && std::isdigit(static_cast<unsigned char>(tensor[end]))) ++end;
    if (end == dot + 1 || end - dot > 7 || end >= tensor.size() || tensor[end] != '.') continue;
    std::string module = tensor.substr(end + 1);
    const std::string ending = ".weight";
    if (module.size() > ending.size() &&
        module.compare(module.size() - ending.size(), ending.size(), ending) == 0)
      module.resize(module.size() - ending.size());
    return {std::stoi(tensor.substr(dot + 1, end - dot - 1)), module};
  }
  return {-1, tensor};
}

std::string short_name(std::string module) {
  module.erase(0, module.rfind('.') == std::string::npos ? 0 : module.rfind('.') + 1);
  if (module.size() > 5 && module.compare(module.size() - 5, 5, "_proj") == 0)
    module.resize(module.size() - 5);
  return module;
}

}  // namespace strata
