#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "strata/core/json.h"

namespace strata {

// Results that are expensive, saved as they come so that an interrupted run goes on where it was. A file of
// JSON lines, "strata.cache": the first says what the results belong to, each other has a key and a value. A
// line that an interruption cut short is ignored. Ranks (core/ranks.h) write a file each, since network file
// systems mix what several machines append to one, and read those of all.
class ResultCache {
 public:
  // Keeps nothing.
  ResultCache() = default;

  // Opens DIRECTORY/NAME-<hash of identity>.jsonl, creating both; results of another identity are in another
  // file. Throws when the directory cannot be written or the file is something else.
  ResultCache(const std::filesystem::path& directory, const std::string& name, const Json& identity);

  const Json* find(const std::string& key) const;  // null when it is not there
  void store(const std::string& key, Json value);  // written at once
  size_t size() const { return values_.size(); }

 private:
  void read(const std::filesystem::path& path, const std::string& identity);

  std::unordered_map<std::string, Json> values_;
  std::ofstream file_;
  std::filesystem::path path_;
};

}  // namespace strata
