#include "strata/calibration/result_cache.h"

#include <gtest/gtest.h>

#include <fstream>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

std::filesystem::path only_file(const std::filesystem::path& directory) {
  std::filesystem::path found;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    EXPECT_TRUE(found.empty());
    found = entry.path();
  }
  return found;
}

TEST(ResultCache, GoesOnWhereAnInterruptionCutALineShort) {
  TemporaryDirectory directory;
  const auto folder = directory / "cache";
  const Json identity = {{"model", "m"}};
  ResultCache(folder, "kl", identity).store("a", 0.1);
  const auto path = only_file(folder);
  std::ofstream(path, std::ios::app) << "{\"key\":\"b\",\"val";
  ResultCache second(folder, "kl", identity);
  ASSERT_NE(second.find("a"), nullptr);
  EXPECT_EQ(second.find("a")->get<double>(), 0.1);
  EXPECT_EQ(second.find("b"), nullptr);
  second.store("c", 1.0 / 3);
  const ResultCache third(folder, "kl", identity);
  EXPECT_EQ(third.size(), 2u);
  EXPECT_EQ(third.find("c")->get<double>(), 1.0 / 3);
}

TEST(ResultCache, KeepsResultsOfDifferentThingsApart) {
  TemporaryDirectory directory;
  ResultCache(directory.path(), "kl", {{"model", "m"}}).store("a", 1);
  EXPECT_EQ(ResultCache(directory.path(), "kl", {{"model", "n"}}).find("a"), nullptr);
  EXPECT_EQ(ResultCache().find("a"), nullptr);
}

TEST(ResultCache, LeavesOtherFilesAlone) {
  TemporaryDirectory directory;
  const Json identity = {{"model", "m"}};
  { ResultCache cache(directory.path(), "kl", identity); }
  const auto path = only_file(directory.path());
  for (const char* text : {"something else\n", "{}\n", "{\"format\": 3}\n", "[1]\n", ""}) {
    write_text(path, text);
    if (*text == '\0') continue;
    EXPECT_THROW(ResultCache(directory.path(), "kl", identity), Error) << text;
    EXPECT_EQ(read_text(path), text);
  }
  write_text(directory / "file", "");
  EXPECT_THROW(ResultCache(directory / "file", "kl", identity), Error);
}

}  // namespace
}  // namespace strata
