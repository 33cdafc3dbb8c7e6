#pragma once

#include <optional>
#include <string>
#include <vector>

#include "strata/allocation/plan.h"
#include "strata/allocation/scores.h"

namespace strata {

// At least one limit is set; all that are set hold together.
struct Budget {
  std::optional<double> bits_per_weight;  // stored
  std::optional<double> average_code_bits;
  std::optional<uint64_t> bytes;  // stored bytes of the allocated matrices alone
  std::string text() const;       // "3 bpw"
};

// One matrix to be given a scheme.
struct AllocationModule {
  int layer = 0;
  std::string module, tensor;
  int64_t rows = 0, cols = 0;
};

// Modules that must share a scheme: "none", "vllm" ({q,k,v} and {gate,up} of a layer), "layer" (a whole
// layer).
enum class Ties { None, Fused, Layer };

struct AllocatorOptions {
  std::string name = "exact";  // uniform, rank, boost, exact
  std::vector<Scheme> schemes;
  Budget budget;
  Ties ties = Ties::None;
  double relative_gap = 1e-4;  // exact
  double seconds = 60;         // exact: time limit
  // boost (methods SensiBoost and KurtBoost)
  enum class Differences { Subtract, Divide } differences = Differences::Subtract;
  double base = 3.13;  // rung of the ladder, by its name in the papers
  int stop = 2;        // rungs a chosen module climbs
  int top = 2;         // outliers kept per role; 0 = all
};

// Modules of a scores file, from its costs when it has them, otherwise from its scores.
std::vector<AllocationModule> modules_of(const Scores& scores);

// A plan for all modules. Throws UsageError when the budget is below the smallest possible (which it names)
// or above the largest.
Plan allocate(const std::vector<AllocationModule>& modules, const Scores& scores,
              const AllocatorOptions& options);

}  // namespace strata
