#include "strata/core/regex.h"

#include <gtest/gtest.h>

#include "tests/support/error_of.h"

namespace strata {
namespace {

std::string refusal(const std::string& pattern, const std::string& text) {
  return error_of([&] { Regex::Matcher(Regex(pattern)).find(text, 0); });
}

// 2^60 ways to cut the text into pieces of one and two letters, and recursion without an end.
TEST(Regex, EndlessBacktrackingIsGivenUp) {
  const std::string text(60, 'a');
  const std::string pattern = "(?:(?:a|aa)+)+[#!]";
  EXPECT_NE(refusal(pattern, text).find("the pattern \"" + pattern + "\" cannot be looked for: match limit"),
            std::string::npos)
      << refusal(pattern, text);
  EXPECT_NE(refusal("(?R)x|(?R)", text), "");
}

}  // namespace
}  // namespace strata
