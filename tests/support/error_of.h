#pragma once

#include <gtest/gtest.h>

#include <string>

#include "strata/core/error.h"

namespace strata {

// The message with which `action` fails; the test fails when it does not throw an Error of one line.
template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not an error of ours: " << error.what();
    return {};
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

}  // namespace strata
