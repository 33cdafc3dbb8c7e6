#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "strata/core/json.h"
#include "strata/pipeline/compare.h"

namespace strata {

// One cell of a comparison; it has a row a text.
struct CompareCell {
  std::string method, quantizer;
  double budget = 0;
};

Json row_json(const CompareRow& row);
CompareRow row_from_json(const Json& json);

// The rows of a comparison on disk, rewritten whole after every cell, so that an interrupted comparison goes
// on where it ended: {"format": "strata.comparison", "version": 1, "settings": ..., "rows": [...]}.
class ComparisonFile {
 public:
  // Reads the rows of an existing file. Throws when it is of a comparison with other settings.
  ComparisonFile(std::filesystem::path path, Json settings);

  std::vector<CompareRow> find(const CompareCell& cell) const;  // empty when there are none
  void add(const std::vector<CompareRow>& rows);                // and saves

 private:
  std::filesystem::path path_;
  Json settings_;
  std::vector<CompareRow> rows_;
};

}  // namespace strata
