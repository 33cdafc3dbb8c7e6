#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "strata/core/error.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {

inline std::filesystem::path write_file(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

// A message that names everything it should.
inline void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
}

// A value's bytes, little-endian as on every machine the tests run on.
template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

// The Python of the runtime tests (the environment variable STRATA_PYTHON, otherwise python3), when it has
// these modules; empty otherwise.
inline std::string python_with(const std::string& modules) {
  const char* chosen = std::getenv("STRATA_PYTHON");
  const std::string python = chosen != nullptr && *chosen != '\0' ? chosen : "python3";
  const std::string probe = "'" + python + "' -c 'import " + modules + "' >/dev/null 2>&1";
  return std::system(probe.c_str()) == 0 ? "'" + python + "'" : std::string();
}

}  // namespace strata
