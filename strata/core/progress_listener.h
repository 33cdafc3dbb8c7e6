#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace strata {

// How far a long step is.
struct ProgressState {
  const void* step;  // tells steps apart that are there at once
  std::string what, unit;
  int64_t done, total;
  bool finished;
};

// Who is told of progress and notes in the place of stderr, where strata is a library of another program.
struct ProgressListener {
  std::function<void(const ProgressState&)> progress;  // about ten times a second, from any thread
  std::function<void(const std::string&)> note;
};

// Until it is set again; empty functions: stderr.
void set_progress_listener(ProgressListener listener);

}  // namespace strata
