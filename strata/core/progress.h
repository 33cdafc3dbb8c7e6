#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace strata {

enum class ProgressStyle { Automatic, Quiet };

// How all progress is shown: a bar with rate and time left on a terminal, a line every ten seconds elsewhere.
void set_progress_style(ProgressStyle style);

// One line on stderr about something done differently than the user might expect; nothing when quiet, and
// each line once.
void show_note(const std::string& text);

// The notes of a piece of work: those that come while it exists, shown or not, each once.
class Notes {
 public:
  Notes();
  ~Notes();
  Notes(const Notes&) = delete;
  Notes& operator=(const Notes&) = delete;

  std::vector<std::string> list() const;

 private:
  friend void show_note(const std::string& text);
  std::vector<std::string> list_;
};

// Progress of one long step on stderr. Every advance also answers Ctrl-C by throwing Interrupted.
class Progress {
 public:
  // `unit` is what is counted, in the plural: "layers", "tokens".
  Progress(std::string what, int64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t count = 1);  // may be called from several threads

 private:
  void show(bool last);

  std::string what_, unit_;
  int64_t total_, done_ = 0;
  std::chrono::steady_clock::time_point start_, shown_;
  bool terminal_, quiet_, any_shown_ = false;
  std::mutex mutex_;
};

}  // namespace strata
