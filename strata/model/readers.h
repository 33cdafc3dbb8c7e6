#pragma once

#include <string>
#include <vector>

#include "strata/model/architecture.h"

namespace strata {

// The matrices of a layer that read one input, in the order in which the layer comes to them.
std::vector<std::vector<std::string>> readers_of(const LayerPlan& plan);

}  // namespace strata
