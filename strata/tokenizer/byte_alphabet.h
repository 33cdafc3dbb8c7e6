#pragma once

#include <string>
#include <string_view>

namespace strata {

// Byte-level BPE writes every byte as a printable character (Radford et al. 2019): bytes that are printable
// in Latin-1 stand for themselves, the others follow from U+0100 on, so that a space becomes U+0120.
std::string to_byte_alphabet(std::string_view bytes);

// The bytes that a token stands for; characters outside the alphabet stay as they are.
std::string from_byte_alphabet(std::string_view token);

}  // namespace strata
