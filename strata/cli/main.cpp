// The program strata. Loading LibTorch takes most of a second, so that commands which compute no tensors run
// here, and for all others the program becomes strata-tensors, which has them all.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "strata/cli/program.h"
#include "strata/core/error.h"
#include "strata/core/ranks.h"

namespace strata::cli {
namespace {

bool runs_here(int argc, char** argv) {
  if (argc < 2) return false;
  for (const std::string_view name : {"--version", "inspect", "allocate", "frontier", "recipe"})
    if (name == argv[1]) return true;
  return false;
}

// Beside this program as in a build tree, or where it is installed. Throws where it is in neither place.
[[noreturn]] void become_strata_tensors(char** argv) {
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  for (const auto& path : {folder / "strata-tensors", folder / STRATA_TENSORS_FOLDER / "strata-tensors"}) {
    execv(path.c_str(), argv);
    if (errno != ENOENT)
      fail("{} could not be started: {}; install strata again", path.string(), std::strerror(errno));
  }
  fail("strata-tensors, which computes tensors for strata, is neither in {} nor in {}; install strata again",
       folder.string(), (folder / STRATA_TENSORS_FOLDER).lexically_normal().string());
}

}  // namespace
}  // namespace strata::cli

int main(int argc, char** argv) {
  using namespace strata::cli;
  if (!runs_here(argc, argv)) {
    try {
      become_strata_tensors(argv);
    } catch (const std::exception& error) {
      fmt::print(stderr, "strata: {}\n", error.what());
      return 1;
    }
  }
  if (strata::launched_rank() > 0) return 0;  // one is enough for what takes no time
  const InspectNetwork inspect_network = [argv](const std::string&, const CommonOptions&) {
    become_strata_tensors(argv);
  };
  return run_program({[&](Program& program) { add_inspect(program, inspect_network); }, add_allocate,
                      add_frontier, add_recipe},
                     argc, argv);
}
