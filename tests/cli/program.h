#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/temporary_directory.h"

namespace strata {

inline constexpr const char* kModel = "models/tiny-llama";

struct Outcome {
  int code = -1;
  std::string out, err;
};

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

using Scratch = TemporaryDirectory;

// Runs `shell` with $STRATA naming the program, and returns exit code, stdout and stderr.
inline Outcome run_shell(const Scratch& scratch, const std::string& shell) {
  const auto out = scratch / "stdout", err = scratch / "stderr";
  const std::string command = "STRATA='" STRATA_PROGRAM "'; cd '" STRATA_SOURCE_DIR "'; { " + shell +
                              "; } >" + out.string() + " 2>" + err.string();
  const int status = std::system(command.c_str());
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = slurp(out);
  outcome.err = slurp(err);
  std::filesystem::remove(out);
  std::filesystem::remove(err);
  return outcome;
}

inline Outcome run(const Scratch& scratch, const std::string& arguments) {
  return run_shell(scratch, "\"$STRATA\" " + arguments);
}

}  // namespace strata
