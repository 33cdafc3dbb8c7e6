// The program strata-tensors: every command of strata.
#include "strata/cli/program.h"
#include "strata/cli/vision.h"

int main(int argc, char** argv) {
  using namespace strata::cli;
  return run_program({[](Program& program) { add_inspect(program, inspect_vision); }, add_score, add_allocate,
                      add_quantize, add_eval, add_verify, add_compare, add_recipe},
                     argc, argv);
}
