#pragma once

#include <string>

#include "strata/allocation/allocator.h"

namespace strata {

// A way to get from a model to a plan: which scores, and which allocator turns them into schemes.
struct MethodChoice {
  std::string label;         // as asked for: "kurtboost", "nsds:rank"
  std::string score_method;  // "kurtosis", "nsds"
  std::string allocator;     // empty = the caller's
  bool rebase = false;
};

// "NAME" or "NAME:ALLOCATOR". NAME is a scoring method, or "kurtboost": kurtosis with the outlier rule,
// rebased onto the budget. "uniform" takes the uniform allocator unless another is named: "uniform:exact"
// gives every layer the same weight, so that the schemes' relative errors alone decide.
MethodChoice parse_method(const std::string& text);

// The allocator's options with the choice's own laid over them.
AllocatorOptions allocator_of(const MethodChoice& choice, AllocatorOptions options);

}  // namespace strata
