#pragma once

#include <cstdint>
#include <string>

#include "strata/allocation/allocator.h"
#include "strata/export/formats.h"
#include "strata/model/model.h"

// Embedding and head: asked for by name, taken from a plan, or chosen by an allocator beside the layers'
// matrices.
namespace strata {

// As users of llama.cpp expect them, where "auto" is asked for: the matrix that makes the logits has Q6_K and
// a separate embedding Q4_K. Other formats keep both as they are, and may refuse what is asked for.
void choose_boundaries(const std::string& asked_embedding, const std::string& asked_head, const Model& model,
                       const ExportFormat& format, ExportPlan& exported);

// Gives embedding and head, each where its scheme was left open, the schemes that the plan has for them and
// the format holds. In a GGUF a matrix of a type that cannot be decoded keeps it.
void adopt_boundaries(const Plan& plan, bool open_embedding, bool open_head, const Model& model,
                      const ExportFormat& format, ExportPlan& exported);

// Why the allocator cannot choose a scheme for an embedding or a head, as a sentence; empty where it can.
std::string obstacle_to_choosing(const AllocationModule& boundary, const Model& model,
                                 const ExportFormat& format, const AllocatorOptions& allocator);

bool has_costs(const Scores& scores, const AllocationModule& boundary);

// Lays the schemes that an allocator chose over those of the file.
void take_boundaries(const Plan& plan, const Model& model, ExportPlan& exported);

// Completes the plan of a written file: schemes of embedding and head, none where they are kept, and what
// they and the whole file take of bits a weight.
void describe_boundaries(const Model& model, const ExportFormat& format, const ExportPlan& exported,
                         uint64_t file_bytes, Plan& plan);

}  // namespace strata
