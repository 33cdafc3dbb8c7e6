#include "strata/tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "strata/core/text.h"

namespace strata {
namespace {

constexpr int kFirstMoved = 0x100;  // characters of moved bytes begin here

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

struct Alphabet {
  std::array<int, 256> character{};  // of a byte
  std::array<int, 512> byte{};       // of a character; -1 outside the alphabet

  Alphabet() {
    byte.fill(-1);
    int next = kFirstMoved;
    for (int b = 0; b < 256; ++b) {
      character[static_cast<size_t>(b)] = stands_for_itself(b) ? b : next++;
      byte[static_cast<size_t>(character[static_cast<size_t>(b)])] = b;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const int character = alphabet().character[static_cast<uint8_t>(byte)];
    if (character < 0x80) {
      text += static_cast<char>(character);
    } else {
      text += static_cast<char>(0xc0 | (character >> 6));
      text += static_cast<char>(0x80 | (character & 0x3f));
    }
  }
  return text;
}

std::string from_byte_alphabet(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  while (!token.empty()) {
    const size_t length = std::max<size_t>(1, utf8_character_length(token));
    int character = length == 1 ? static_cast<uint8_t>(token[0]) : -1;
    if (length == 2)
      character = (static_cast<uint8_t>(token[0]) & 0x1f) << 6 | (static_cast<uint8_t>(token[1]) & 0x3f);
    const bool known =
        character >= 0 && character < 512 && alphabet().byte[static_cast<size_t>(character)] >= 0;
    if (known)
      bytes += static_cast<char>(alphabet().byte[static_cast<size_t>(character)]);
    else
      bytes += token.substr(0, length);
    token.remove_prefix(length);
  }
  return bytes;
}

}  // namespace strata
