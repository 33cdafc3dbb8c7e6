#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "strata/core/json.h"

namespace strata {

// Largest number of weights of one matrix that the files may claim; the bits of a million of them fit 64 bits
// by a wide margin, so sums cannot overflow.
inline constexpr int64_t kMostWeights = int64_t{1} << 38;

// Largest score or cost a file may hold, so that sums of them stay finite.
inline constexpr double kLargestNumber = 1e300;

// One object of a JSON file. Every accessor throws an Error that starts with `where` (the file, and the place
// in it), names the field, says what was found and what was expected.
class Fields {
 public:
  Fields(const Json& object, std::string where);

  bool has(const char* key) const;  // present and not null
  std::string text(const char* key) const;
  std::string text_or_empty(const char* key) const;
  int64_t whole(const char* key, int64_t smallest, int64_t largest) const;
  double finite(const char* key) const;  // at most kLargestNumber in size
  const Json& list(const char* key) const;
  std::pair<std::string, std::string> pair(const char* key) const;  // a list of two texts
  void shape(const char* key, int64_t& rows, int64_t& cols) const;  // [rows, cols], at most kMostWeights

  const std::string& where() const { return where_; }

 private:
  const Json& value(const char* key) const;

  const Json* object_;
  std::string where_;
};

// Opens a document of this format ("strata.scores", version 1); says which file is something else.
Fields open_document(const Json& document, const std::string& where, const std::string& format);

}  // namespace strata
