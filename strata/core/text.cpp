#include "strata/core/text.h"

#include <cstdint>

namespace strata {

size_t utf8_character_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool overlong = (byte(0) == 0xe0 && byte(1) < 0xa0) || (byte(0) == 0xf0 && byte(1) < 0x90);
  const bool surrogate = byte(0) == 0xed && byte(1) >= 0xa0;
  const bool beyond_unicode = byte(0) == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || beyond_unicode ? 0 : length;
}

std::string printable(std::string_view name, size_t limit) {
  std::string result;
  while (!name.empty()) {
    const size_t length = utf8_character_length(name);
    if (result.size() + length > limit) return result + "...";
    const bool control = length == 1 && (static_cast<uint8_t>(name[0]) < 0x20 || name[0] == 0x7f);
    if (length == 0 || control)
      result += '?';
    else
      result += name.substr(0, length);
    name.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
  return hash;
}

}  // namespace strata
