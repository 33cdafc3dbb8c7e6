#include "strata/pipeline/compare.h"

#include <gtest/gtest.h>

#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/quantizers/gptq.h"
#include "strata/sensitivity/kl.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

// Cells are keyed by content: what is in the results file is taken where it would come out the same, and
// nowhere else.
class ResumedComparison : public testing::Test {
 protected:
  void SetUp() override {
    write_model(DType::F32);
    write_text(directory_ / "text", std::string(100, 'i') + std::string(100, 'j'));
    write_text(directory_ / "calib", std::string(200, 'k'));
    request_.model = directory_ / "model";
    request_.texts = {directory_ / "text"};
    request_.methods = {"uniform", "kl"};
    request_.budgets = {3};
    request_.schemes = "w2g32,w4g32";
    request_.evaluation.window = 32;
    request_.results = directory_ / "results.json";
    request_.workbench.calibration.source = (directory_ / "calib").string();
    request_.workbench.calibration.tokens = 64;
    request_.workbench.calibration.window = 16;
    compare(request_);
    mark();
  }

  void write_model(DType type) {
    Json config = small_config("llama");
    config["num_hidden_layers"] = 2;
    write_random_model(directory_ / "model", config, type);
  }

  // Makes every row on disk say so, by a figure that no measurement gives.
  void mark() const {
    Json document = read_json(directory_ / "results.json");
    for (Json& row : document["rows"]) row["ppl"] = -1;
    write_json(directory_ / "results.json", document);
  }

  // Which rows are taken from the file: unquantized, uniform, kl.
  std::vector<bool> taken() const {
    const Comparison comparison = compare(request_);
    std::vector<bool> rows;
    for (const CompareRow& row : comparison.unquantized) rows.push_back(row.evaluation.ppl == -1);
    for (const CompareRow& row : comparison.rows) rows.push_back(row.evaluation.ppl == -1);
    return rows;
  }

  TemporaryDirectory directory_;
  CompareRequest request_;
};

using Rows = std::vector<bool>;

TEST_F(ResumedComparison, TakesAllOfTheSame) {
  EXPECT_EQ(taken(), Rows({true, true, true}));
}

TEST_F(ResumedComparison, KnowsATextByItsTokens) {
  write_text(directory_ / "text", std::string(100, 'j') + std::string(100, 'i'));
  EXPECT_EQ(taken(), Rows({false, false, false}));
}

TEST_F(ResumedComparison, FindsATextUnderAnotherName) {
  std::filesystem::rename(directory_ / "text", directory_ / "renamed");
  request_.texts = {directory_ / "renamed"};
  EXPECT_EQ(taken(), Rows({true, true, true}));
  EXPECT_EQ(compare(request_).rows.front().text, "renamed");
}

TEST_F(ResumedComparison, KnowsAModelByItsWeights) {
  write_model(DType::F16);  // the weights differ by their rounding
  EXPECT_EQ(taken(), Rows({false, false, false}));
}

TEST_F(ResumedComparison, MeasuresAgainWhatCalibrationDecidesAlone) {
  write_text(directory_ / "calib", std::string(200, 'm'));
  EXPECT_EQ(taken(), Rows({true, true, false}));
}

TEST_F(ResumedComparison, MeasuresAgainWhatAnOptionDecidesAlone) {
  request_.workbench.methods.get<KlOptions>().tokens = 16;
  EXPECT_EQ(taken(), Rows({true, true, false}));
}

TEST_F(ResumedComparison, IgnoresOptionsOfWhatIsNotUsed) {
  request_.quantizers.front().options.get<GptqOptions>().damping = 0.5;
  EXPECT_EQ(taken(), Rows({true, true, true}));
  request_.quantizers.front().name = "rtn";
  EXPECT_EQ(taken(), Rows({true, false, false}));
}

TEST_F(ResumedComparison, AFurtherMethodLeavesTheOthers) {
  request_.methods = {"zd", "kl"};
  EXPECT_EQ(taken(), Rows({true, false, true}));
  request_.methods = {"uniform", "kl"};
  EXPECT_EQ(taken(), Rows({true, true, true}));
}

}  // namespace
}  // namespace strata
