#include "strata/pipeline/comparison_file.h"

#include <gtest/gtest.h>

#include <limits>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

CompareRow make_row(const std::string& method, double budget, const std::string& text) {
  CompareRow row;
  row.method = method;
  row.quantizer = "hqq";
  row.budget = budget;
  row.bits_per_weight = budget - 0.01;
  row.bytes = 1234567;
  row.text = text;
  row.seconds = 1.5;
  row.evaluation.tokens = 99;
  row.evaluation.ppl = 12.25;
  row.evaluation.nll = 2.5;
  row.evaluation.kld = 0.125;
  row.evaluation.kld_p99 = 1.0;
  row.evaluation.top1 = 0.75;
  return row;
}

TEST(ComparisonFile, GoesOnWhereAnEarlierRunEnded) {
  TemporaryDirectory directory;
  const auto path = directory.path() / "results.json";
  const Json settings = {{"model", "m"}, {"seeds", 5}};
  CompareRow diverged = make_row("zd", 2.5, "a");
  diverged.evaluation.ppl = std::numeric_limits<double>::infinity();
  {
    ComparisonFile file(path, settings);
    EXPECT_TRUE(file.find({"nsds", "hqq", 3}).empty());
    file.add({make_row("nsds", 3, "a"), make_row("nsds", 3, "b")});
    file.add({diverged});
  }
  const ComparisonFile file(path, settings);
  const auto rows = file.find({"nsds", "hqq", 3});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(row_json(rows[0]), row_json(make_row("nsds", 3, "a")));
  EXPECT_EQ(rows[1].text, "b");
  EXPECT_TRUE(file.find({"nsds", "rtn", 3}).empty());
  EXPECT_TRUE(file.find({"nsds", "hqq", 3.5}).empty());
  ASSERT_EQ(file.find({"zd", "hqq", 2.5}).size(), 1u);
  EXPECT_EQ(file.find({"zd", "hqq", 2.5})[0].evaluation.ppl, diverged.evaluation.ppl);
}

TEST(ComparisonFile, RefusesResultsOfAnotherComparison) {
  TemporaryDirectory directory;
  const auto path = directory.path() / "results.json";
  ComparisonFile(path, {{"model", "m"}, {"seeds", 5}}).add({make_row("nsds", 3, "a")});
  try {
    ComparisonFile(path, {{"model", "m"}, {"seeds", 6}});
    FAIL() << "rows of other settings were taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("seeds differs"), std::string::npos) << error.what();
  }
  write_text(path, "{\"format\": \"strata.comparison\", \"version\": 1, \"settings\": {}, \"rows\": [{}]}");
  EXPECT_THROW(ComparisonFile(path, Json::object()), Error);
}

}  // namespace
}  // namespace strata
