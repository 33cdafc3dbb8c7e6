#include "strata/core/interrupt.h"

#include <csignal>

#include "strata/core/error.h"
#include "strata/core/interrupt_scope.h"

namespace strata {
namespace {

volatile std::sig_atomic_t signal_arrived = 0;

void on_signal(int signal) {
  signal_arrived = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  if (std::signal(SIGHUP, on_signal) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);  // under nohup
  std::signal(SIGPIPE, SIG_IGN);
}

InterruptScope::InterruptScope() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, &before_);
}

InterruptScope::~InterruptScope() {
  sigaction(SIGINT, &before_, nullptr);
  signal_arrived = 0;
}

bool interrupted() {
  return signal_arrived != 0;
}

void check_interrupted() {
  if (interrupted()) throw Interrupted();
}

}  // namespace strata
