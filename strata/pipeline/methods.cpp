#include "strata/pipeline/methods.h"

#include <cstdlib>

#include "strata/core/error.h"

namespace strata {
namespace {

MethodChoice with_base(const std::string& text, size_t at) {
  MethodChoice choice = parse_method(text.substr(0, at));
  char* end = nullptr;
  const double base = std::strtod(text.c_str() + at + 1, &end);
  if (!choice.rebase || *end != '\0' || !(base > 0))
    fail_usage("'{}' is no method; a base such as @3.13 goes with kurtboost or sensiboost", text);
  choice.label = text;
  choice.base = base;
  choice.rebase = false;
  return choice;
}

}  // namespace

MethodChoice parse_method(const std::string& text) {
  const size_t at = text.find('@');
  if (at != std::string::npos) return with_base(text, at);
  MethodChoice choice;
  choice.label = text;
  const size_t colon = text.find(':');
  choice.score_method = text.substr(0, colon);
  if (colon != std::string::npos) {
    choice.allocator = text.substr(colon + 1);
    find_allocator(choice.allocator);
  }
  if (choice.score_method == "uniform" && choice.allocator.empty()) choice.allocator = "uniform";
  if (choice.score_method == "kurtboost") {
    choice.score_method = "kurtosis";
    choice.differences = Differences::Subtract;
  }
  if (text == "kurtboost" || text == "sensiboost" || text == "mxq") {
    choice.allocator = text == "mxq" ? "exact" : "boost";
    choice.rebase = text != "mxq";
    choice.schemes = "paper-ladder";
  }
  if (choice.score_method == "high-impact") {
    if (choice.allocator.empty()) choice.allocator = "quadratic";
    choice.schemes = "w2g64+w3";
  }
  if (choice.score_method == "sensiboost") choice.differences = Differences::Divide;
  return choice;
}

AllocatorOptions allocator_of(const MethodChoice& choice, AllocatorOptions options) {
  if (!choice.allocator.empty()) options.name = choice.allocator;
  BoostOptions& boost = options.own.get<BoostOptions>();
  boost.rebase = boost.rebase || choice.rebase;
  if (choice.differences) boost.differences = *choice.differences;
  if (choice.base) {
    boost.base = *choice.base;
    options.budget = {};
    options.schemes = parse_schemes(choice.schemes);
  }
  return options;
}

}  // namespace strata
