#pragma once

namespace strata {

// From here on SIGINT and SIGTERM only set a flag, so that destructors can remove unfinished outputs.
// A second signal ends the process at once.
void catch_interrupts();

bool interrupted();

// Throws Interrupted once a signal has arrived. Long loops call it; Progress::advance does.
void check_interrupted();

}  // namespace strata
