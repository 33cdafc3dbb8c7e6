#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "tests/support/files.h"

namespace strata {

// The file with up to four places cut, overwritten, taken out or repeated.
inline std::string damage(std::string bytes, Random& random) {
  const auto position = [&] { return static_cast<size_t>(random.below(bytes.size())); };
  // Most damage goes near the beginning, where headers are.
  const auto early = [&] {
    return random.below(2) == 0 ? position() : position() % std::min<size_t>(bytes.size(), 200);
  };
  for (uint64_t changes = 1 + random.below(4); changes > 0 && !bytes.empty(); --changes) {
    switch (random.below(6)) {
      case 0:
        bytes.resize(position());
        break;
      case 1:
        bytes[early()] ^= static_cast<char>(1 << random.below(8));
        break;
      case 2:
        bytes[early()] = static_cast<char>(random.below(256));
        break;
      case 3:
        bytes[early()] = "0123456789-\"{}[],:e."[random.below(20)];
        break;
      case 4:
        bytes.erase(early(), 1 + random.below(8));
        break;
      default: {
        const std::string piece = bytes.substr(position(), 1 + random.below(16));
        bytes.insert(early(), piece);
      }
    }
  }
  return bytes;
}

// Reads `count` damaged versions of a file; at least some must be refused, with an Error of one line.
template <class Read>
void expect_no_crash(const std::string& original, const std::filesystem::path& target, int count, Read read) {
  write_file(target, original);
  EXPECT_NO_THROW(read()) << "the file as it was";
  Random random(11);
  int refused = 0;
  for (int i = 0; i < count; ++i) {
    write_file(target, damage(original, random));
    try {
      read();
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(refused, count / 10);
  write_file(target, original);
}

}  // namespace strata
