#pragma once

#include "strata/model/model.h"

namespace strata {

// Whether some modules are stacks.
bool has_stacks(const Model& model);

// The same model with the matrix of every expert as a module of its own, under the names that a Hugging Face
// directory has (Model::experts_apart). It is for scoring weights and for writing, not to be run.
Model split_experts(const Model& model);

}  // namespace strata
