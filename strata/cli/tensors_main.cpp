// The program strata-tensors: every command of strata.
#include <fmt/format.h>

#include <exception>

#include "strata/cli/mpi_link.h"
#include "strata/cli/program.h"
#include "strata/cli/vision.h"

int main(int argc, char** argv) {
  using namespace strata::cli;
  try {
    const MpiJob job;
    return run_program({[](Program& program) { add_inspect(program, inspect_vision); }, add_score,
                        add_allocate, add_quantize, add_eval, add_verify, add_compare, add_recipe},
                       argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "strata: {}\n", error.what());
    return 1;
  }
}
