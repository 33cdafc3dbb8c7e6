#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/core/regex.h"
#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Finds added tokens ("<|eot_id|>") in text before it is cut into words: at each place the longest one,
// from left to right.
class AddedTokenSplitter {
 public:
  struct Token {
    std::string content;
    Vocabulary::AddedToken flags;
  };

  explicit AddedTokenSplitter(std::vector<Token> tokens);

  // Visits the pieces in order: text with no id, or an added token with its id.
  using Visit = std::function<void(std::string_view piece, std::optional<int32_t> id)>;
  void split(std::string_view text, const Visit& visit) const;

 private:
  const Token* longest_at(std::string_view text, size_t position) const;

  std::vector<Token> tokens_;  // longest first
  std::array<std::vector<size_t>, 256> by_first_byte_;
  Regex space_, word_;
};

}  // namespace strata
