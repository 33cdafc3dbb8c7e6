#pragma once

#include <string>
#include <vector>

#include "strata/core/json.h"
#include "strata/model/model.h"

// Hugging Face directories whose forward pass is not known here.
namespace strata {

// The matrices of the layers, <prefix>layers.N.<name>.weight, that can be quantized: two-dimensional, no
// integers, and neither routers nor small convolutions. Where several towers have layers, those of the
// largest one.
std::vector<Module> sized_modules(const Checkpoint& checkpoint);

// Architecture, layers, vocabulary and hidden size, as far as the tensors and the config tell, and the names
// of embedding and head. `model` has its path, checkpoint and modules; throws where it has no modules or no
// embedding.
void describe_sized(Model& model, const Json& config);

}  // namespace strata
