#include "strata/calibration/result_cache.h"

#include <fmt/format.h>

#include <utility>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/ranks.h"
#include "strata/core/text.h"

namespace strata {
namespace {

constexpr const char* kFormat = "strata.cache";

}  // namespace

ResultCache::ResultCache(const std::filesystem::path& directory, const std::string& name,
                         const Json& identity) {
  const std::string text = identity.dump();
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const std::string stem = fmt::format("{}-{:016x}", name, fnv1a(text));
  path_ = directory / (stem + (is_first_rank() ? "" : fmt::format(".rank{}", rank())) + ".jsonl");
  const bool continued = std::filesystem::exists(path_, error);
  for (const auto& file : std::filesystem::directory_iterator(directory, error)) {
    const std::string found = file.path().filename().string();
    const bool of_any_rank =
        found == stem + ".jsonl" || found.compare(0, stem.size() + 5, stem + ".rank") == 0;
    if (of_any_rank && file.is_regular_file(error)) read(file.path(), text);
  }
  file_.open(path_, std::ios::app);
  if (!file_) fail("{} cannot be written; choose another --calib-cache", path_.string());
  // A fresh line also ends one that was cut short.
  if (continued)
    file_ << '\n' << std::flush;
  else
    file_ << Json{{"format", kFormat}, {"identity", identity}}.dump() + '\n' << std::flush;
}

void ResultCache::read(const std::filesystem::path& path, const std::string& identity) {
  std::ifstream file(path);
  std::string line;
  for (bool first = true; std::getline(file, line); first = false) {
    const Json entry = Json::parse(line, nullptr, false);
    if (first) {
      if (!entry.is_object() || !entry.contains("format") || entry["format"] != kFormat ||
          !entry.contains("identity") || entry["identity"].dump() != identity)
        fail("{} is not a cache of these results; remove it or choose another --calib-cache", path.string());
      continue;
    }
    if (!entry.is_object() || !entry.contains("key") || !entry["key"].is_string() || !entry.contains("value"))
      continue;
    values_[entry["key"].get<std::string>()] = entry["value"];
  }
}

const Json* ResultCache::find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void ResultCache::store(const std::string& key, Json value) {
  if (file_.is_open()) {
    // In one piece, so that lines of several processes do not mix.
    file_ << Json{{"key", key}, {"value", value}}.dump() + '\n' << std::flush;
    if (!file_) fail("{} cannot be written any more; is the disk full?", path_.string());
  }
  values_[key] = std::move(value);
}

}  // namespace strata
