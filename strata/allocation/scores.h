#pragma once

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

// The file contract `scores.json` (docs/files.md).
struct Scores {
  std::string model, method;
  bool per_module = false;  // the unit
  std::vector<Score> scores;
  std::vector<Cost> costs;
  Json details = Json::object();
};

Json to_json(const Scores& scores);
Scores scores_from_json(const Json& document, const std::string& where);  // checks format, version and fields
Scores read_scores(const std::filesystem::path& path);
void write_scores(const std::filesystem::path& path, const Scores& scores);

}  // namespace strata
