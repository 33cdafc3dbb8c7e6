#pragma once

#include <string>

#include "strata/model/architecture.h"

namespace strata {

// What DeepSeek V2 and V3 agree in: latent attention, norms before the blocks, and how configs say both. Each
// adds how its router chooses.
Architecture deepseek();

// The tensors and the plan of a layer; with a bias by which experts are chosen, or none.
std::vector<LayerTensor> deepseek_tensors(const ModelConfig& config, int layer, bool bias);
LayerPlan deepseek_plan(const ModelConfig& config, int layer, bool bias);

}  // namespace strata
