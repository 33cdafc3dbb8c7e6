#include "strata/core/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <set>

#include "strata/core/interrupt.h"
#include "strata/core/progress_listener.h"
#include "strata/core/units.h"

namespace strata {
namespace {

using std::chrono::steady_clock;

ProgressStyle style = ProgressStyle::Automatic;
ProgressListener listener;

double seconds_between(steady_clock::time_point a, steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

struct NoteTakers {
  std::mutex mutex;
  std::set<Notes*> all;
};

// Made at the first use, so that notes may be taken before `main`.
NoteTakers& note_takers() {
  static NoteTakers takers;
  return takers;
}

// Columns of the terminal that shows stderr, as it is now; 80 where it does not say.
size_t terminal_width() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace

void set_progress_style(ProgressStyle new_style) {
  style = new_style;
}

void set_progress_listener(ProgressListener new_listener) {
  listener = std::move(new_listener);
}

void show_note(const std::string& text) {
  static std::set<std::string> shown;
  NoteTakers& takers = note_takers();
  const std::lock_guard<std::mutex> lock(takers.mutex);
  for (Notes* notes : takers.all)
    if (std::find(notes->list_.begin(), notes->list_.end(), text) == notes->list_.end())
      notes->list_.push_back(text);
  if (style == ProgressStyle::Quiet) return;
  if (listener.note)
    listener.note(text);
  else if (shown.insert(text).second)
    fmt::print(stderr, "note: {}\n", text);
}

Notes::Notes() {
  NoteTakers& takers = note_takers();
  const std::lock_guard<std::mutex> lock(takers.mutex);
  takers.all.insert(this);
}

Notes::~Notes() {
  NoteTakers& takers = note_takers();
  const std::lock_guard<std::mutex> lock(takers.mutex);
  takers.all.erase(this);
}

std::vector<std::string> Notes::list() const {
  const std::lock_guard<std::mutex> lock(note_takers().mutex);
  return list_;
}

Progress::Progress(std::string what, int64_t total, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      start_(steady_clock::now()),
      shown_(start_),
      terminal_(isatty(STDERR_FILENO) != 0),
      quiet_(style == ProgressStyle::Quiet) {}

Progress::~Progress() {
  if (any_shown_ && (terminal_ || listener.progress)) show(true);
}

void Progress::advance(int64_t count) {
  check_interrupted();
  if (quiet_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ += count;
  const auto now = steady_clock::now();
  if (seconds_between(shown_, now) < (terminal_ || listener.progress ? 0.1 : 10.0)) return;
  shown_ = now;
  show(false);
}

void Progress::show(bool last) {
  any_shown_ = true;
  if (listener.progress) {
    listener.progress({this, what_, unit_, done_, total_, last});
    return;
  }
  const double elapsed = seconds_between(start_, steady_clock::now());
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0;
  const double left = rate > 0 ? static_cast<double>(total_ - done_) / rate : 0;
  const std::string figures = fmt::format("{}/{} {}, {:.3g}/s, {}", done_, total_, unit_, rate,
                                          last ? format_seconds(elapsed) : format_seconds(left) + " left");
  if (terminal_) {
    // A line that wraps could not be written over: the bar gives way first, then the figures' end.
    constexpr size_t kWidth = 24;
    const size_t columns = terminal_width() - 1, taken = what_.size() + figures.size() + 2;
    const size_t width = std::min(kWidth, columns - std::min(columns, taken));
    const size_t filled =
        total_ > 0 ? width * static_cast<size_t>(std::min(done_, total_)) / static_cast<size_t>(total_)
                   : width;
    std::string bar;
    for (size_t i = 0; i < width; ++i) bar += i < filled ? "█" : "░";
    const std::string line = width > 0 ? fmt::format("{} {} {}", what_, bar, figures)
                                       : fmt::format("{} {}", what_, figures).substr(0, columns);
    fmt::print(stderr, "\r\033[K{}{}", line, last ? "\n" : "");
    std::fflush(stderr);
  } else {
    fmt::print(stderr, "{}: {}\n", what_, figures);
  }
}

}  // namespace strata
