#include "strata/tokenizer/unicode_normalization.h"

#include "strata/core/error.h"
#include "strata/core/text.h"

#ifdef STRATA_HAS_UTF8PROC
#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#endif

namespace strata {
namespace {

// Characters below U+0300 are normal and do not combine with what precedes them, so that text made of them
// alone is in form C (its quick-check property and combining classes begin at U+0300).
size_t plain_length(std::string_view text) {
  size_t length = 0;
  while (length < text.size() && static_cast<uint8_t>(text[length]) < 0xcc) ++length;
  return length;
}

#ifdef STRATA_HAS_UTF8PROC

std::string normalize_valid(std::string_view text) {
  utf8proc_uint8_t* normal = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &normal, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(normal, &std::free);
  if (size < 0) fail("Unicode normalization failed: {}", utf8proc_errmsg(size));
  return {reinterpret_cast<const char*>(normal), static_cast<size_t>(size)};
}

#else

// Common scripts and marks whose characters are all normal and never the second of a pair that composes:
// general punctuation without the spaces U+2000 and U+2001, CJK ideographs, kana without their marks, emoji.
bool is_known_normal(std::string_view character) {
  uint32_t code = 0;
  if (character.size() == 3)
    code = (static_cast<uint8_t>(character[0]) & 0x0fu) << 12 |
           (static_cast<uint8_t>(character[1]) & 0x3fu) << 6 | (static_cast<uint8_t>(character[2]) & 0x3fu);
  if (character.size() == 4)
    code = (static_cast<uint8_t>(character[0]) & 0x07u) << 18 |
           (static_cast<uint8_t>(character[1]) & 0x3fu) << 12 |
           (static_cast<uint8_t>(character[2]) & 0x3fu) << 6 | (static_cast<uint8_t>(character[3]) & 0x3fu);
  const auto within = [code](uint32_t first, uint32_t last) { return first <= code && code <= last; };
  return within(0x2002, 0x206f) || within(0x20a0, 0x20bf) || within(0x2190, 0x21ff) ||
         within(0x3040, 0x3098) || within(0x309b, 0x30ff) || within(0x4e00, 0x9fff) ||
         within(0x1f300, 0x1faff);
}

std::string normalize_valid(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_character_length(text.substr(i, 4));
    const std::string_view character = text.substr(i, length);
    if (plain_length(character) != length && !is_known_normal(character))
      fail(
          "the tokenizer asks for Unicode normalization (NFC), and the text has the character {} that may "
          "need it, "
          "but this program was built without utf8proc; install libutf8proc-dev and build again",
          printable(character));
    i += length;
  }
  return std::string(text);
}

#endif

}  // namespace

std::string normalize_nfc(std::string_view text) {
  if (plain_length(text) == text.size()) return std::string(text);
  std::string result;
  while (!text.empty()) {
    size_t valid = 0;
    while (const size_t length = utf8_character_length(text.substr(valid, 4))) valid += length;
    result += normalize_valid(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) break;
    result += text[0];
    text.remove_prefix(1);
  }
  return result;
}

}  // namespace strata
