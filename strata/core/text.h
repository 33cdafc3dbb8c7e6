#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace strata {

// A name out of somebody's file, made fit for a message: control characters and bytes that are not UTF-8
// become "?", and what goes beyond `limit` bytes becomes "...".
std::string printable(std::string_view name, size_t limit = 100);

// Bytes of the UTF-8 character at the start of `text`; 0 when it does not start with a valid one (overlong
// forms, surrogates and numbers above U+10FFFF included).
size_t utf8_character_length(std::string_view text);

// A hash that is the same on every machine (FNV-1a).
uint64_t fnv1a(std::string_view text);

}  // namespace strata
