#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "strata/allocation/allocator.h"

namespace strata::cli {

// --bpw, --avg-bits and --size.
struct BudgetOptions {
  std::optional<double> bpw, average_code_bits;
  std::string size;

  // `what_size_counts` completes the help of --size.
  void add_to(CLI::App& command, const std::string& what_size_counts);
  Budget resolve() const;  // throws UsageError when a figure is not positive
};

// --allocator, --ties and what belongs to single allocators.
struct AllocationOptions {
  std::string allocator = "exact", ties = "none", interactions = "on", differences = "subtract";
  double gap = 1e-4, seconds = 60, base = 3.13;
  int stop = 2, top = 2;
  bool rebase = false;

  void add_to(CLI::App& command);
  AllocatorOptions resolve() const;
};

}  // namespace strata::cli
