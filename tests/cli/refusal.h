#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/cli/program.h"

namespace strata {

// One line on stderr that names `what`, and nothing on stdout.
inline void expect_refusal(const Outcome& outcome, int code, const std::string& what) {
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err.rfind("strata: ", 0), 0u) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_NE(outcome.err.find(what), std::string::npos) << outcome.err;
}

}  // namespace strata
