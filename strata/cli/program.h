#pragma once

#include <functional>
#include <vector>

#include "strata/cli/common.h"

namespace strata::cli {

using AddCommand = std::function<void(Program&)>;

// Adds these commands, and to each the options that all have.
void add_commands(Program& program, const std::vector<AddCommand>& commands);

// A program of these commands, from its arguments to its exit code.
int run_program(const std::vector<AddCommand>& commands, int argc, char** argv);

}  // namespace strata::cli
