#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "strata/core/json.h"
#include "strata/pipeline/compare.h"

namespace strata {

Json row_json(const CompareRow& row);
CompareRow row_from_json(const Json& json);

// The rows of comparisons on disk, rewritten whole after every cell, so that an interrupted comparison goes
// on where it ended: {"format": "strata.comparison", "version": 2, "rows": [{"key": ..., ...}, ...]}. A key
// holds all that the row depends on, by content, so that a row is found again only where it would come out
// the same.
class ComparisonFile {
 public:
  // Reads the rows of an existing file. Throws when it is something else.
  explicit ComparisonFile(std::filesystem::path path);

  const CompareRow* find(const Json& key) const;                                 // null when it is not there
  void add(const std::vector<Json>& keys, const std::vector<CompareRow>& rows);  // a key a row; and saves

 private:
  std::filesystem::path path_;
  std::vector<Json> keys_;
  std::vector<CompareRow> rows_;
};

}  // namespace strata
