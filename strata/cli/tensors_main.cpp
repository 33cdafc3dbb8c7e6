// The program strata-tensors: every command of strata.
#include "strata/cli/all_commands.h"

int main(int argc, char** argv) {
  return strata::cli::run_program(strata::cli::all_commands(), argc, argv);
}
