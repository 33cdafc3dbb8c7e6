#include "strata/tokenizer/word_splitter.h"

#include "strata/core/text.h"

namespace strata {
namespace {

using Visit = std::function<void(std::string_view)>;
using Matchers = std::vector<Regex::Matcher>;

void split_valid(const Matchers& matchers, size_t level, std::string_view text, const Visit& visit) {
  if (text.empty()) return;
  if (level == matchers.size()) return visit(text);
  size_t position = 0;
  while (position < text.size()) {
    const auto match = matchers[level].find(text, position);
    const size_t begin = match ? match->begin : text.size();
    split_valid(matchers, level + 1, text.substr(position, begin - position), visit);
    if (!match) return;
    split_valid(matchers, level + 1, text.substr(begin, match->end - begin), visit);
    position = match->end;
  }
}

// Bytes at the start of `text` that are (or are not) valid UTF-8.
size_t run_length(std::string_view text, bool valid) {
  size_t length = 0;
  while (length < text.size()) {
    const size_t character = utf8_character_length(text.substr(length, 4));
    if ((character > 0) != valid) break;
    length += valid ? character : 1;
  }
  return length;
}

}  // namespace

WordSplitter::WordSplitter(const std::vector<std::string>& patterns)
    : regexes_(patterns.begin(), patterns.end()) {}

void WordSplitter::split(std::string_view text, const Visit& visit) const {
  const Matchers matchers(regexes_.begin(), regexes_.end());
  for (bool valid = true; !text.empty(); valid = !valid) {
    const size_t length = run_length(text, valid);
    const std::string_view run = text.substr(0, length);
    text.remove_prefix(length);
    if (valid)
      split_valid(matchers, 0, run, visit);
    else
      visit(run);
  }
}

}  // namespace strata
