// A fuzz target reads bytes as one kind of file. libFuzzer calls it with inputs that it makes up (./check
// --fuzz), and corpus_test.cpp with those under corpus/.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "tests/support/temporary_directory.h"

namespace strata {

using FuzzTarget = void (*)(std::string_view bytes);

// The targets that are linked into this program, by name.
inline std::map<std::string, FuzzTarget>& fuzz_targets() {
  static std::map<std::string, FuzzTarget> targets;
  return targets;
}

// A file is read, or refused with an Error of one line. Everything else is a finding: it leaves as another
// exception.
inline void read_or_refuse(FuzzTarget target, std::string_view bytes) {
  try {
    target(bytes);
  } catch (const Error& error) {
    const std::string message = error.what();
    if (message.empty() || message.find('\n') != std::string::npos)
      throw std::logic_error("the refusal is not one line: " + message);
  }
}

// Where a target's files lie.
inline const std::filesystem::path& fuzz_directory() {
  static const TemporaryDirectory directory;
  return directory.path();
}

inline std::filesystem::path fuzz_file(const std::string& name, std::string_view bytes) {
  const std::filesystem::path path = fuzz_directory() / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

}  // namespace strata

#ifdef STRATA_FUZZER
#define STRATA_FUZZ_TARGET(name)                                                        \
  static void name##_target(std::string_view bytes);                                    \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {             \
    strata::set_progress_style(strata::ProgressStyle::Quiet);                           \
    strata::read_or_refuse(name##_target, {reinterpret_cast<const char*>(data), size}); \
    return 0;                                                                           \
  }                                                                                     \
  static void name##_target(std::string_view bytes)
#else
#define STRATA_FUZZ_TARGET(name)                                   \
  static void name##_target(std::string_view bytes);               \
  [[maybe_unused]] static const bool name##_listed =               \
      strata::fuzz_targets().emplace(#name, name##_target).second; \
  static void name##_target(std::string_view bytes)
#endif
