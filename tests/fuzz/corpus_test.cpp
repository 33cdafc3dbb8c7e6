// What fuzzing found, and what reaches the most code, read again (corpus/TARGET/*).
#include <gtest/gtest.h>

#include <iterator>

#include "tests/fuzz/fuzz_target.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

TEST(Corpus, IsReadOrRefused) {
  set_progress_style(ProgressStyle::Quiet);
  for (const auto& [name, target] : fuzz_targets()) {
    const fs::path corpus = fs::path(STRATA_SOURCE_DIR "/tests/fuzz/corpus") / name;
    ASSERT_TRUE(fs::is_directory(corpus)) << corpus;
    int files = 0;
    for (const fs::directory_entry& entry : fs::directory_iterator(corpus)) {
      std::ifstream stream(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
      EXPECT_NO_THROW(read_or_refuse(target, bytes)) << entry.path();
      ++files;
    }
    EXPECT_GT(files, 0) << corpus;
  }
}

}  // namespace
}  // namespace strata
