#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "strata/allocation/allocator.h"

namespace strata {

// What a budget can limit.
enum Resource { kStoredBits, kCodeBits, kStoredBytes };

// Amount of each resource that matrices take; embedding and head take bytes alone.
using Use = std::array<int64_t, 3>;

Use use_of(const AllocationModule& module, const Scheme& scheme);
Use& operator+=(Use& a, const Use& b);
Use& operator-=(Use& a, const Use& b);

struct Limit {
  Resource resource;
  int64_t amount;
  std::string text;  // "3 bpw"
};

// A budget in whole units for matrices of this many weights together.
class Limits {
 public:
  // Throws UsageError when a limit is not a positive number.
  Limits(const Budget& budget, int64_t weights);

  const std::vector<Limit>& list() const { return list_; }
  bool allow(const Use& use) const;

  // Throws UsageError when some limit is below the smallest use possible; names that use in the limit's own
  // unit and says `possible_with` ("the schemes w2g64, w3g64").
  void check_smallest(const Use& smallest, const std::string& possible_with) const;

  // Whether there are limits and all of them are above this use.
  bool exceed(const Use& use) const;

  // A use in the unit of a resource: "2.6251 bpw", rounded up so that it is enough as a budget.
  std::string text_of(Resource resource, int64_t amount) const;

 private:
  std::vector<Limit> list_;
  int64_t weights_;
  uint64_t bytes_beside_;
};

}  // namespace strata
