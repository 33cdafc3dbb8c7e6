#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "strata/allocation/plan.h"
#include "strata/export/formats.h"
#include "strata/model/model.h"

namespace strata {

// The scheme of this name; nothing where there is none.
std::optional<Scheme> find_scheme(const std::string& name);

// The schemes in which a model's matrices are stored, as a plan: F16 and the like where they are not
// quantized. A type for which there is no scheme (groups of 16) throws, naming the tensor.
Plan stored_plan(const Model& model);

// Whether any of the model's matrices is quantized, in types that all are schemes.
bool has_stored_plan(const Model& model);

// A plan for this model from a plan.json, from the types of an existing GGUF file of the same model (.gguf),
// or from a --tensor-type-file of llama-quantize (.txt). Throws when it is not for this model.
Plan read_plan_for(const Model& model, const std::filesystem::path& path);

}  // namespace strata
