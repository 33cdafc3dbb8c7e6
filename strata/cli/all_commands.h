#pragma once

#include <vector>

#include "strata/cli/program.h"

namespace strata::cli {

// Every command of strata.
std::vector<AddCommand> all_commands();

}  // namespace strata::cli
