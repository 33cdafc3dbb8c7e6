#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "strata/core/json.h"
#include "strata/quantization/scheme.h"

namespace strata {

struct Assignment {
  std::string tensor;
  int64_t rows = 0, cols = 0;  // 0 when a plan file does not say
  Scheme scheme;
};

// The file contract `plan.json`: a scheme for every module.
struct Plan {
  std::string model, method, allocator;
  std::string budget;          // as asked for: "3.0 bpw", "12.0 MiB"; "none" without one
  double bits_per_weight = 0;  // stored bits of the assigned matrices over their weights
  double average_code_bits = 0;
  uint64_t bytes = 0;          // stored bytes of the assigned matrices
  std::optional<double> cost;  // total, where every assigned scheme has one
  std::optional<double> gap;   // relative optimality gap that the solver proved
  std::vector<Assignment> assignments;
  // Where the plan has them too; bits and bytes above leave them out. The head's is unused when it is tied.
  std::optional<Scheme> embedding, head, layer_embedding;
  // Stored bits a weight of these, and of the whole file over all the model's weights; where they are known.
  std::optional<double> embedding_bits, head_bits, layer_embedding_bits, file_bits;
  int64_t layers = 0;  // of the model; 0 where it is not known

  void sum_up();  // fills bits_per_weight, average_code_bits and bytes from the assignments' shapes
};

Json to_json(const Plan& plan);

// The scheme that a matrix of rows this long is stored in: for GGUF types whose blocks do not divide them the
// one that stands in (stored_type), for others the scheme itself.
Scheme stored_scheme(const Scheme& scheme, int64_t cols);

// Gives every matrix that scheme. What changed, as one sentence; empty where nothing did.
std::string name_stored_schemes(Plan& plan);

// Checks format, version, every field, duplicate tensors and the names of schemes; errors start with `where`.
// Where every assignment has its shape, the sums are computed from them and not taken from the file.
Plan plan_from_json(const Json& document, const std::string& where);

Plan read_plan(const std::filesystem::path& path);
void write_plan(const std::filesystem::path& path, const Plan& plan);

}  // namespace strata
