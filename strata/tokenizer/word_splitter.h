#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/core/regex.h"

namespace strata {

// Cuts text into the words that byte-level BPE merges within. The first pattern cuts the text into its
// matches and what lies between them, the next one cuts each of these pieces again, and so on
// (tokenizer.json's Sequence of Split steps with behaviour "Isolated"). Bytes that are not UTF-8 form words
// of their own.
class WordSplitter {
 public:
  explicit WordSplitter(const std::vector<std::string>& patterns);

  // Visits all words in order; together they are the text.
  void split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

 private:
  std::vector<Regex> regexes_;
};

}  // namespace strata
