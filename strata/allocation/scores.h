#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "strata/core/json.h"

namespace strata {

// One line of scores.json: how fragile a layer, or a module of it, is. Higher is more sensitive.
struct Score {
  int layer = 0;
  std::string module;  // "self_attn.q_proj"; empty when the unit is the layer
  double score = 0;
  int64_t params = 0;
};

// What storing one module in one scheme costs the model.
struct Cost {
  std::string tensor;
  int64_t rows = 0, cols = 0;
  std::string scheme;
  double cost = 0;
};

// What two modules cost the model together beyond the sum of their own costs, of either sign:
//   cost of a plan = sum of the modules' Cost + sum over pairs of modules of their PairCost,
// every pair counted once. For the quadratic form x' M x of arXiv 2511.17801, Cost is M_ll = 2 (L(first) -
// L(theta)) and PairCost is 2 M_lm = 2 (L(both) + L(theta) - L(first) - L(second)), since M is symmetric; so
// both may be halved. The order of the two does not matter, and what is not listed costs nothing extra.
struct PairCost {
  std::string first_tensor, first_scheme;
  std::string second_tensor, second_scheme;
  double cost = 0;
};

// One matrix to be given a scheme.
struct AllocationModule {
  int layer =
      0;  // negative: none, it is the "embedding", the "head" or, where they are one, "embedding+head"
  std::string module, tensor;
  int64_t rows = 0, cols = 0;

  int64_t params() const { return rows * cols; }
  bool is_boundary() const { return layer < 0; }
};

// The file contract `scores.json` (docs/files.md).
struct Scores {
  std::string model, method;
  bool per_module = false;  // the unit
  std::vector<Score> scores;
  std::vector<Cost> costs;
  std::vector<PairCost> pair_costs;          // of tensors that have costs; used by the allocator `quadratic`
  std::vector<AllocationModule> modules;     // what is to be given schemes, so that `allocate` needs no model
  std::vector<AllocationModule> boundaries;  // embedding and head, where they have costs too
  Json details = Json::object();
};

// Throws Error when a value is not finite or a line is there twice.
Json to_json(const Scores& scores);

// Checks format, version, every field, duplicates and the names of schemes; errors start with `where`.
Scores scores_from_json(const Json& document, const std::string& where);

Scores read_scores(const std::filesystem::path& path);
void write_scores(const std::filesystem::path& path, const Scores& scores);

// The matrices that a scores file speaks of, in layer order: its `modules`, or else the tensors of its costs,
// or else one matrix for every score ("model.layers.0.self_attn.q_proj.weight", or "model.layers.0" where the
// unit is the layer) with its number of weights and rows of up to 4096. Embedding and head are not among
// them.
std::vector<AllocationModule> modules_of(const Scores& scores);

}  // namespace strata
