#pragma once

#include <vector>

#include "strata/model/model.h"

namespace strata {

// Where embedding and head stand, which no layer has.
constexpr int kNoLayer = -1;

// The matrices before and behind the layers, as modules of kNoLayer called "embedding" and "head", or
// "embedding+head" where both are one.
std::vector<Module> boundary_modules(const Model& model);

}  // namespace strata
