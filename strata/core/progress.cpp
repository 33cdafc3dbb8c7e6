#include "strata/core/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "strata/core/interrupt.h"
#include "strata/core/units.h"

namespace strata {
namespace {

using std::chrono::steady_clock;

ProgressStyle style = ProgressStyle::Automatic;

double seconds_between(steady_clock::time_point a, steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

}  // namespace

void set_progress_style(ProgressStyle new_style) {
  style = new_style;
}

void show_note(const std::string& text) {
  if (style != ProgressStyle::Quiet) fmt::print(stderr, "note: {}\n", text);
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
  if (any_shown_ && terminal_) show(true);
}

void Progress::advance(int64_t count) {
  check_interrupted();
  if (quiet_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ += count;
  const auto now = steady_clock::now();
  if (seconds_between(shown_, now) < (terminal_ ? 0.1 : 10.0)) return;
  shown_ = now;
  show(false);
}

void Progress::show(bool last) {
  const double elapsed = seconds_between(start_, steady_clock::now());
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0;
  const double left = rate > 0 ? static_cast<double>(total_ - done_) / rate : 0;
  const std::string figures = fmt::format("{}/{} {}, {:.3g}/s, {}", done_, total_, unit_, rate,
                                          last ? format_seconds(elapsed) : format_seconds(left) + " left");
  if (terminal_) {
    constexpr int kWidth = 24;
    const int filled = total_ > 0 ? static_cast<int>(kWidth * std::min(done_, total_) / total_) : kWidth;
    std::string bar;
    for (int i = 0; i < kWidth; ++i) bar += i < filled ? "█" : "░";
    fmt::print(stderr, "\r\033[K{} {} {}{}", what_, bar, figures, last ? "\n" : "");
    std::fflush(stderr);
  } else {
    fmt::print(stderr, "{}: {}\n", what_, figures);
  }
  any_shown_ = true;
}

}  // namespace strata
