#pragma once

#include <cstdint>
#include <string>

#include "strata/allocation/allocator.h"
#include "strata/export/formats.h"
#include "strata/model/model.h"

// Embedding and head: asked for by name, taken from a plan, or chosen by an allocator beside the layers'
// matrices. And the table of embeddings for every layer, which no allocator chooses.
namespace strata {

// What was asked for, each a scheme's name or "auto".
struct AskedBoundaries {
  std::string embedding = "auto", head = "auto", layer_embedding = "auto";
};

// As users of llama.cpp expect them, where "auto" is asked for: the matrix that makes the logits has Q6_K and
// a separate embedding Q4_K; embeddings for every layer have what is asked for the embedding, or Q4_K. Other
// formats keep all as they are, and may refuse what is asked for.
void choose_boundaries(const AskedBoundaries& asked, const Model& model, const ExportFormat& format,
                       ExportPlan& exported);

// Gives each of them whose scheme was left open the one that the plan has for it and the format holds. In a
// GGUF a matrix of a type that cannot be decoded keeps it.
void adopt_boundaries(const Plan& plan, const AskedBoundaries& asked, const Model& model,
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
