#pragma once

#include "strata/cli/command.h"
#include "strata/pipeline/workbench.h"

namespace strata::cli {

// Where evidence about a language model comes from, and what single scoring methods declare.
void add_evidence(Command& command, WorkbenchOptions& options);

// What single quantizers declare.
void add_quantizers(Command& command, OptionValues& options);

}  // namespace strata::cli
