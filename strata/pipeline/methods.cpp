#include "strata/pipeline/methods.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "strata/core/error.h"

namespace strata {

MethodChoice parse_method(const std::string& text) {
  MethodChoice choice;
  choice.label = text;
  const size_t colon = text.find(':');
  choice.score_method = text.substr(0, colon);
  if (colon != std::string::npos) {
    choice.allocator = text.substr(colon + 1);
    const std::vector<std::string> known = allocator_names();
    if (std::find(known.begin(), known.end(), choice.allocator) == known.end())
      fail_usage("'{}' names an unknown allocator; known are {}", text, fmt::join(known, ", "));
  }
  if (choice.score_method == "uniform" && choice.allocator.empty()) choice.allocator = "uniform";
  if (choice.score_method == "kurtboost") {
    choice.score_method = "kurtosis";
    choice.differences = AllocatorOptions::Differences::Subtract;
  }
  if (text == "kurtboost" || text == "sensiboost" || text == "mxq") {
    choice.allocator = text == "mxq" ? "exact" : "boost";
    choice.rebase = text != "mxq";
    choice.schemes = "paper-ladder";
  }
  if (choice.score_method == "sensiboost") choice.differences = AllocatorOptions::Differences::Divide;
  return choice;
}

AllocatorOptions allocator_of(const MethodChoice& choice, AllocatorOptions options) {
  if (!choice.allocator.empty()) options.name = choice.allocator;
  options.rebase = options.rebase || choice.rebase;
  if (choice.differences) options.differences = *choice.differences;
  return options;
}

}  // namespace strata
