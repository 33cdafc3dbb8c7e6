#pragma once

#include <optional>
#include <string>

#include "strata/allocation/allocator.h"
#include "strata/allocation/boost.h"

namespace strata {

// A way to get from a model to a plan: which scores, and which allocator turns them into schemes.
struct MethodChoice {
  std::string label;         // as asked for: "kurtboost", "nsds:rank"
  std::string score_method;  // "kurtosis", "nsds"
  std::string allocator;     // empty = the caller's
  bool rebase = false;
  std::optional<Differences> differences;  // of the outlier rule; nothing = the caller's
  std::string schemes;         // the method's own menu, for outputs that can store it; empty = any
  std::optional<double> base;  // the ladder's rung to boost from, without a budget
};

// "NAME" or "NAME:ALLOCATOR". NAME is a scoring method, or one with an allocator of its own: "kurtboost" is
// kurtosis with the outlier rule on differences and "sensiboost" activation sensitivity with the rule on
// ratios, both rebased onto the budget where there is one; "mxq" is the exact sum of Frobenius norms.
// "high-impact" takes the quadratic allocator and the ratios of its paper.
// "uniform" takes the uniform allocator unless another is named: "uniform:exact" gives every layer the same
// weight, so that the schemes' relative errors alone decide. "auto" is for resolve_automatic() to replace.
// "kurtboost@3.13" or "sensiboost@3.13" is the paper's own form: the base and boosts on top, in its ladder,
// larger than the base.
MethodChoice parse_method(const std::string& text);

// The allocator's options with the choice's own laid over them.
AllocatorOptions allocator_of(const MethodChoice& choice, AllocatorOptions options);

}  // namespace strata
