#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/allocation/plan.h"
#include "strata/allocation/scores.h"
#include "strata/core/options.h"
#include "strata/quantization/scheme.h"

namespace strata {

// All limits that are set hold together.
struct Budget {
  std::optional<double> bits_per_weight;    // stored
  std::optional<double> average_code_bits;  // codes alone, as many papers count
  std::optional<uint64_t> bytes;            // stored bytes of the allocated matrices alone
  uint64_t bytes_beside = 0;                // of the file that has them, which what is said of bytes counts

  bool empty() const { return !bits_per_weight && !average_code_bits && !bytes; }
  std::string text() const;  // "3 bpw", "12.00 MiB", "3 bpw and 3 average code bits", "none"
};

// Modules that must share a scheme: "none", "fused" ({q,k,v} and {gate,up} of a layer, as vLLM needs) or
// "layer" (a whole layer).
enum class Ties { None, Fused, Layer };

Ties parse_ties(std::string_view name);  // throws UsageError

struct AllocatorOptions {
  std::string name = "exact";   // of allocators()
  std::vector<Scheme> schemes;  // the menu; empty = those of the file's costs (boost: the papers' ladder)
  Budget budget;                // at least one limit is set, except for boost
  Ties ties = Ties::None;
  // Embedding and head, where they are to be given schemes too: bytes count them, bits are the layers' alone.
  std::vector<AllocationModule> boundaries;
  OptionValues own;  // what single allocators declare
};

struct AllocationProblem;
struct Allocation;

// A way to give every module a scheme (problem.h).
struct Allocator {
  std::string name;
  std::string summary;  // one line, for --help
  Allocation (*allocate)(const AllocationProblem& problem) = nullptr;
  bool needs_budget = true;
  DeclareOptions options = nullptr;  // of its own; null = none
  std::string schemes = "";          // its menu where none is given; empty = those of the file's costs
  bool weighs_costs = false;  // gives schemes by costs, also to embedding and head; others leave those out
};

// All allocators; a new one is a line here.
const std::vector<Allocator>& allocators();

// The allocator of this name; throws UsageError listing those there are.
const Allocator& find_allocator(std::string_view name);

// A plan for all modules, in their order, and the options' boundaries. Throws UsageError when the budget is
// below the smallest possible (which it names), and Error when the scores do not cover a
// module.
Plan allocate(const std::vector<AllocationModule>& modules, const Scores& scores,
              const AllocatorOptions& options);

}  // namespace strata
