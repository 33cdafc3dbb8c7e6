#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/allocation/plan.h"
#include "strata/allocation/scores.h"
#include "strata/quantization/scheme.h"

namespace strata {

// All limits that are set hold together.
struct Budget {
  std::optional<double> bits_per_weight;    // stored
  std::optional<double> average_code_bits;  // codes alone, as many papers count
  std::optional<uint64_t> bytes;            // stored bytes of the allocated matrices alone

  bool empty() const { return !bits_per_weight && !average_code_bits && !bytes; }
  std::string text() const;  // "3 bpw", "12.00 MiB", "3 bpw and 3 average code bits", "none"
};

// Modules that must share a scheme: "none", "fused" ({q,k,v} and {gate,up} of a layer, as vLLM needs) or
// "layer" (a whole layer).
enum class Ties { None, Fused, Layer };

Ties parse_ties(std::string_view name);  // throws UsageError

struct AllocatorOptions {
  std::string name = "exact";  // one of allocator_names()
  std::vector<Scheme>
      schemes;    // the menu; empty = the schemes of the file's costs (boost: the papers' ladder)
  Budget budget;  // at least one limit is set, except for boost
  Ties ties = Ties::None;
  double relative_gap = 1e-4;  // exact, quadratic: stop at this proven distance from the optimum
  double seconds = 60;         // exact, quadratic: time limit of the integer program
  bool interactions = true;    // quadratic: count what pairs of modules cost together
  // boost (SensiBoost and KurtBoost)
  enum class Differences { Subtract, Divide } differences = Differences::Subtract;
  double base = 3.13;   // rung of the ladder, by its bits per weight as the papers round it
  int stop = 2;         // rungs a chosen module climbs
  int top = 2;          // outliers kept per role; 0 = all
  bool rebase = false;  // choose the base so that base and boosts meet the budget
};

AllocatorOptions::Differences parse_differences(std::string_view name);  // "subtract", "divide"

bool parse_interactions(std::string_view name);  // "on", "off"; throws UsageError

// uniform, rank, boost, exact, quadratic.
std::vector<std::string> allocator_names();

// A plan for all modules, in their order. Throws UsageError when the budget is below the smallest possible
// (which it names) or above the largest, and Error when the scores do not cover a module.
Plan allocate(const std::vector<AllocationModule>& modules, const Scores& scores,
              const AllocatorOptions& options);

}  // namespace strata
