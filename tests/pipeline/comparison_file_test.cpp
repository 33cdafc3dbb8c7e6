#include "strata/pipeline/comparison_file.h"

#include <gtest/gtest.h>

#include <limits>

#include "strata/core/file.h"
#include "tests/support/error_of.h"
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
  const Json first = {{"text", "1f"}, {"budget", 3.1}}, second = {{"text", "2f"}, {"budget", 3.1}},
             other = {{"text", "1f"}, {"budget", 2.5}};
  CompareRow diverged = make_row("zd", 2.5, "a");
  diverged.evaluation.ppl = std::numeric_limits<double>::infinity();
  {
    ComparisonFile file(path);
    EXPECT_EQ(file.find(first), nullptr);
    file.add({first, second}, {make_row("nsds", 3.1, "a"), make_row("nsds", 3.1, "b")});
    file.add({other}, {diverged});
  }
  const ComparisonFile file(path);
  ASSERT_NE(file.find(first), nullptr);
  EXPECT_EQ(row_json(*file.find(first)), row_json(make_row("nsds", 3.1, "a")));
  EXPECT_EQ(file.find(second)->text, "b");
  EXPECT_EQ(file.find({{"text", "3f"}, {"budget", 3.1}}), nullptr);
  EXPECT_EQ(file.find(other)->evaluation.ppl, diverged.evaluation.ppl);
}

TEST(ComparisonFile, RefusesOtherFiles) {
  TemporaryDirectory directory;
  const auto path = directory.path() / "results.json";
  for (const char* bad : {"{}", "{\"format\": \"strata.comparison\", \"version\": 1, \"rows\": []}",
                          "{\"format\": \"strata.comparison\", \"version\": 2, \"rows\": [{}]}"}) {
    write_text(path, bad);
    EXPECT_NE(error_of([&] { ComparisonFile file(path); }).find("choose another file"), std::string::npos)
        << bad;
  }
}

}  // namespace
}  // namespace strata
