// The program strata-tensors: every command of strata, also as one of the processes of an MPI job.
#include <fmt/format.h>

#include <exception>

#include "strata/cli/all_commands.h"
#include "strata/cli/mpi_link.h"

int main(int argc, char** argv) {
  try {
    const strata::cli::MpiJob job;
    return strata::cli::run_program(strata::cli::all_commands(), argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "strata: {}\n", error.what());
    return 1;
  }
}
