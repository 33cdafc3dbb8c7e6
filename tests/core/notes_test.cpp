#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "strata/core/progress.h"

namespace strata {
namespace {

TEST(Notes, AreTakenByThePiecesOfWorkThatTheyFallInto) {
  set_progress_style(ProgressStyle::Quiet);
  show_note("before");
  const Notes outer;
  show_note("first");
  {
    const Notes inner;
    show_note("second");
    show_note("first");
    show_note("second");
    EXPECT_EQ(inner.list(), (std::vector<std::string>{"second", "first"}));
  }
  std::thread([] { show_note("third"); }).join();
  EXPECT_EQ(outer.list(), (std::vector<std::string>{"first", "second", "third"}));
  set_progress_style(ProgressStyle::Automatic);
}

TEST(Notes, GoToStderrOnceUnlessQuiet) {
  testing::internal::CaptureStderr();
  show_note("shown once, however many take it");
  const Notes notes;
  show_note("shown once, however many take it");
  set_progress_style(ProgressStyle::Quiet);
  show_note("taken only");
  set_progress_style(ProgressStyle::Automatic);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "note: shown once, however many take it\n");
  EXPECT_EQ(notes.list().size(), 2u);
}

}  // namespace
}  // namespace strata
