#pragma once

#include <filesystem>

#include "strata/allocation/plan.h"
#include "strata/export/formats.h"
#include "strata/model/model.h"

namespace strata {

// The schemes in which a model's matrices are stored, as a plan: F16 and the like where they are not
// quantized. A type for which there is no scheme (groups of 16) throws, naming the tensor.
Plan stored_plan(const Model& model);

// Whether any of the model's matrices is quantized, in types that all are schemes.
bool has_stored_plan(const Model& model);

// A plan for this model from a plan.json, from the types of an existing GGUF file of the same model (.gguf),
// or from a --tensor-type-file of llama-quantize (.txt). Throws when it is not for this model.
Plan read_plan_for(const Model& model, const std::filesystem::path& path);

// Gives embedding and head, each where its scheme was left open, the schemes that the plan has for them and
// the format holds. In a GGUF a matrix of a type that cannot be decoded keeps it.
void adopt_boundaries(const Plan& plan, bool open_embedding, bool open_head, const Model& model,
                      const ExportFormat& format, ExportPlan& exported);

}  // namespace strata
