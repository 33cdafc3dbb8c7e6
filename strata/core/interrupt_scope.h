#pragma once

#include <csignal>

namespace strata {

// While this is there, Ctrl-C makes long loops throw Interrupted, as catch_interrupts() does for a program;
// then the process handles it as before. One at a time.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  struct sigaction before_;
};

}  // namespace strata
