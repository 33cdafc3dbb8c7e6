#include <gtest/gtest.h>

#include <set>

#include "strata/calibration/row_impact.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/compare.h"
#include "strata/pipeline/quantize.h"
#include "strata/quantizers/row_learning.h"
#include "tests/support/error_of.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class HighImpact : public testing::Test {
 protected:
  void SetUp() override {
    Json config = small_config("llama");
    config["num_hidden_layers"] = 2;
    write_random_model(directory_ / "model", config, DType::F32);
    model_ = open_model(directory_ / "model");
    evidence_.calibration.source = "self";
    evidence_.calibration.tokens = 64;
    evidence_.calibration.window = 16;
  }

  QuantizeRequest request(double bits_per_weight) const {
    QuantizeRequest request;
    request.model = directory_ / "model";
    request.output = directory_ / "out";
    request.format = "hf";
    request.method = "high-impact";
    request.allocator.budget.bits_per_weight = bits_per_weight;
    request.workbench = evidence_;
    request.quantizer.name = "rtn";
    return request;
  }

  TemporaryDirectory directory_;
  Model model_;
  WorkbenchOptions evidence_;
};

// Values of a row at 2 bits in groups of 64: at most four in each.
bool has_low_bits(const float* row, int64_t cols) {
  for (int64_t c = 0; c < cols; c += 64)
    if (std::set<float>(row + c, row + std::min(cols, c + 64)).size() > 4) return false;
  return true;
}

TEST_F(HighImpact, GivesHighBitsToTheRowsOfTheLargestGradients) {
  const QuantizeResult result = quantize(request(2.65));
  EXPECT_EQ(result.plan.allocator, "quadratic");
  EXPECT_LE(result.plan.bits_per_weight, 2.65);
  EXPECT_FALSE(result.scores.pair_costs.empty());
  const std::shared_ptr<const Calibration> tokens =
      require_calibration(model_, evidence_.calibration, at::kCPU, "test");
  const RowImpacts impacts = measure_row_impact(model_, *tokens, at::kCPU);
  const Model written = open_model(directory_ / "out");
  std::set<std::string> schemes;
  for (const Assignment& assignment : result.plan.assignments) {
    ASSERT_EQ(assignment.scheme.kind, Scheme::Kind::MixedRows);
    schemes.insert(assignment.scheme.name());
    const std::vector<int64_t> expected =
        high_rows(impacts.at(assignment.tensor), assignment.scheme.high_row_count(assignment.rows));
    std::vector<float> values(static_cast<size_t>(assignment.rows * assignment.cols));
    written.checkpoint->read(written.checkpoint->info(assignment.tensor), values.data());
    std::vector<int64_t> high;
    for (int64_t r = 0; r < assignment.rows; ++r)
      if (!has_low_bits(&values[r * assignment.cols], assignment.cols)) high.push_back(r);
    EXPECT_EQ(high, expected) << assignment.tensor << " " << assignment.scheme.name();
  }
  EXPECT_GT(schemes.size(), 1u);  // the ratio is not the same everywhere
}

TEST_F(HighImpact, ReplansFromItsCacheWithoutMeasuring) {
  QuantizeRequest first = request(2.65);
  first.workbench.cache = directory_ / "cache";
  quantize(first);
  const auto sizes = [&] {
    std::map<std::string, uintmax_t> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "cache"))
      files[entry.path().filename().string()] = entry.file_size();
    return files;
  };
  const auto before = sizes();
  EXPECT_EQ(before.size(), 2u);  // of rows and of losses
  QuantizeRequest second = request(2.6);
  second.workbench.cache = directory_ / "cache";
  EXPECT_LE(quantize(second).plan.bits_per_weight, 2.6);
  for (const auto& [name, size] : sizes()) EXPECT_LE(size, before.at(name) + 1);  // a fresh line each
}

TEST_F(HighImpact, IsComparedWithItsControlsAndLearnedQuantizers) {
  CompareRequest request;
  request.model = directory_ / "model";
  write_text(directory_ / "text", std::string(400, 'i'));
  request.texts = {directory_ / "text"};
  request.methods = {"high-impact", "high-impact:exact", "uniform"};
  request.budgets = {2.65};
  request.schemes = "w2g64+w3";
  request.quantizers.clear();
  for (const char* name : {"hybrid", "adaround", "lwc"}) {
    QuantizerChoice& choice = request.quantizers.emplace_back();
    choice.name = name;
    choice.options.get<RowLearningOptions>().layers.steps = 2;
  }
  request.workbench = evidence_;
  request.evaluation.window = 32;
  const Comparison comparison = compare(request);
  ASSERT_EQ(comparison.rows.size(), 9u);
  for (const CompareRow& row : comparison.rows) {
    EXPECT_LE(row.bits_per_weight, 2.65);
    EXPECT_GT(row.bits_per_weight, 2.6);
    EXPECT_GT(*row.evaluation.kld, 0);
  }
}

TEST_F(HighImpact, GivesEveryRowMoreBitsAboveItsRatiosAndNamesTheLeastBudget) {
  const QuantizeResult all = quantize(request(5));
  const Scheme widest = parse_scheme("w2g64+w3@0.2");
  for (const Assignment& assignment : all.plan.assignments)
    EXPECT_EQ(assignment.scheme.name(), widest.name()) << assignment.tensor;
  EXPECT_NE(error_of([&] { quantize(request(1)); }).find("smallest"), std::string::npos)
      << error_of([&] { quantize(request(1)); });
}

}  // namespace
}  // namespace strata
