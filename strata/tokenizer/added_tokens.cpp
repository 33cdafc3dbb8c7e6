#include "strata/tokenizer/added_tokens.h"

#include <algorithm>

#include "strata/core/text.h"

namespace strata {
namespace {

// The character that ends where `text` does; empty at its beginning or after bytes that are not UTF-8.
std::string_view last_character(std::string_view text) {
  for (size_t length = 1; length <= std::min<size_t>(4, text.size()); ++length) {
    const std::string_view end = text.substr(text.size() - length);
    if (utf8_character_length(end) == length) return end;
  }
  return {};
}

std::string_view first_character(std::string_view text) {
  return text.substr(0, utf8_character_length(text.substr(0, 4)));
}

bool matches(const Regex::Matcher& matcher, std::string_view character) {
  return !character.empty() && matcher.find(character, 0).has_value();
}

}  // namespace

AddedTokenSplitter::AddedTokenSplitter(std::vector<Token> tokens)
    : tokens_(std::move(tokens)), space_(R"(\s)"), word_(R"([\p{L}\p{M}\p{N}\p{Pc}])") {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const Token& a, const Token& b) { return a.content.size() > b.content.size(); });
  for (size_t i = 0; i < tokens_.size(); ++i)
    if (!tokens_[i].content.empty()) by_first_byte_[static_cast<uint8_t>(tokens_[i].content[0])].push_back(i);
}

const AddedTokenSplitter::Token* AddedTokenSplitter::longest_at(std::string_view text,
                                                                size_t position) const {
  for (const size_t i : by_first_byte_[static_cast<uint8_t>(text[position])])
    if (text.compare(position, tokens_[i].content.size(), tokens_[i].content) == 0) return &tokens_[i];
  return nullptr;
}

void AddedTokenSplitter::split(std::string_view text, const Visit& visit) const {
  const Regex::Matcher space(space_), word(word_);
  size_t done = 0;
  for (size_t position = 0; position < text.size();) {
    const Token* token = longest_at(text, position);
    if (token == nullptr) {
      ++position;
      continue;
    }
    size_t begin = position, end = position + token->content.size();
    position = end;
    if (token->flags.single_word && (matches(word, last_character(text.substr(0, begin))) ||
                                     matches(word, first_character(text.substr(end)))))
      continue;
    if (token->flags.lstrip)
      while (begin > done && matches(space, last_character(text.substr(done, begin - done))))
        begin -= last_character(text.substr(done, begin - done)).size();
    if (token->flags.rstrip)
      while (matches(space, first_character(text.substr(end))))
        end += first_character(text.substr(end)).size();
    if (begin > done) visit(text.substr(done, begin - done), std::nullopt);
    visit(text.substr(begin, end - begin), token->flags.id);
    done = position = end;
  }
  if (done < text.size()) visit(text.substr(done), std::nullopt);
}

}  // namespace strata
