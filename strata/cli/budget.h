#pragma once

#include <string>

#include "strata/allocation/allocator.h"
#include "strata/cli/command.h"

namespace strata::cli {

// --bpw, --avg-bits and --size; `what_size_counts` completes the help of --size, which ONNX models take too
// where `kind` says so.
void add_budget(Command& command, Budget& budget, const std::string& what_size_counts,
                ModelKind kind_of_size = ModelKind::Language);

// --ties and what belongs to single allocators; --allocator.
void add_allocation(Command& command, AllocatorOptions& allocator);

}  // namespace strata::cli
