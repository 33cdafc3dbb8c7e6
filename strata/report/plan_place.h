#pragma once

#include <string>

namespace strata {

// Where a matrix stands in a model.
struct PlanPlace {
  int layer = -1;  // negative: in none
  std::string module;
};

// "model.layers.3.self_attn.q_proj.weight" is layer 3, module "self_attn.q_proj"; the first number between
// dots counts.
PlanPlace place_of(const std::string& tensor);

// "self_attn.q_proj" is shown as "q".
std::string short_name(std::string module);

}  // namespace strata
