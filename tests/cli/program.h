#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace strata {

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

// A directory of this test's own, removed at the end.
class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "strata-cli-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

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
