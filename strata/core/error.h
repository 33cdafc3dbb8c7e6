#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "strata/core/text.h"

namespace strata {

// The work failed (exit code 1). The message is one sentence: what, where, what was found, what was
// expected, what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The request itself was wrong (exit code 2): an option, a name or a budget that cannot be.
class UsageError : public Error {
 public:
  using Error::Error;
};

// The user pressed Ctrl-C or the process was asked to end.
class Interrupted : public Error {
 public:
  Interrupted() : Error("interrupted; no half-written file was left") {}
};

// A message, which may hold names out of somebody's file, in one line.
inline std::string one_line(const std::string& message) {
  return printable(message, std::string::npos);
}

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(one_line(fmt::format(format, std::forward<Args>(args)...)));
}

template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(one_line(fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace strata
