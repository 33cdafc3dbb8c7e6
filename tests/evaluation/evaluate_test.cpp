#include "strata/evaluation/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/evaluation/token_losses.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

class Evaluate : public ::testing::Test {
 protected:
  Evaluate() {
    set_progress_style(ProgressStyle::Quiet);
    write_tiny_model(directory_ / "model", TinyModel{});
    TinyModel other;
    other.seed = 2;
    other.architecture = "qwen2";
    write_tiny_model(directory_ / "reference", other);
    model_ = open_model(directory_ / "model");
    reference_ = open_model(directory_ / "reference");
    Random random(5);
    for (int i = 0; i < 107; ++i) ids_.push_back(static_cast<int32_t>(random.below(64)));
  }

  // Natural logarithms of the next-token distributions of one window, in double precision.
  static std::vector<std::vector<double>> log_distributions(const Model& model,
                                                            const std::vector<int32_t>& window) {
    Decoder decoder(model, {});
    const at::Tensor logits = decoder.forward(
        at::tensor(std::vector<int64_t>(window.begin(), window.end()), at::kLong).unsqueeze(0))[0];
    std::vector<std::vector<double>> rows;
    for (int64_t t = 0; t < logits.size(0); ++t) {
      std::vector<double> row;
      double total = 0;
      for (int64_t i = 0; i < logits.size(1); ++i) row.push_back(logits[t][i].item<float>());
      for (double value : row) total += std::exp(value);
      for (double& value : row) value -= std::log(total);
      rows.push_back(row);
    }
    return rows;
  }

  std::vector<int32_t> window(int64_t start, int64_t length) const {
    return {ids_.begin() + start, ids_.begin() + start + length};
  }

  Evaluation run(const EvaluationOptions& options, bool with_reference = false) {
    Decoder decoder(model_, {}), reference(reference_, {});
    return evaluate(decoder, ids_, options, with_reference ? &reference : nullptr);
  }

  std::string error_of(const EvaluationOptions& options) {
    try {
      run(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  TemporaryDirectory directory_;
  Model model_, reference_;
  std::vector<int32_t> ids_;
};

EvaluationOptions windows_of(int64_t window, int64_t stride = 0) {
  EvaluationOptions options;
  options.window = window;
  options.stride = stride;
  return options;
}

TEST_F(Evaluate, GivesPerplexityAndItsErrorOverWholeWindows) {
  std::vector<double> losses;
  for (int64_t start = 0; start + 20 <= 107; start += 20) {
    const auto ids = window(start, 20);
    const auto rows = log_distributions(model_, ids);
    for (int t = 0; t + 1 < 20; ++t) losses.push_back(-rows[t][ids[t + 1]]);
  }
  double mean = 0, squares = 0;
  for (double loss : losses) mean += loss / losses.size();
  for (double loss : losses) squares += (loss - mean) * (loss - mean);
  const double error = std::sqrt(squares / (losses.size() - 1) / losses.size());

  const Evaluation found = run(windows_of(20));
  EXPECT_EQ(found.tokens, 5 * 19);
  EXPECT_NEAR(found.nll, mean, 1e-5);
  EXPECT_NEAR(found.ppl, std::exp(mean), 1e-4 * std::exp(mean));
  EXPECT_NEAR(found.nll_standard_error, error, 1e-5);
  EXPECT_NEAR(found.ppl_standard_error, std::exp(mean) * error, 1e-4 * std::exp(mean));
  EXPECT_FALSE(found.kld || found.top1);
}

TEST_F(Evaluate, CountsTheLastStrideTokensOfOverlappingWindows) {
  double total = 0;
  int count = 0;
  for (int64_t start = 0; start + 20 <= 107; start += 8) {
    const auto ids = window(start, 20);
    const auto rows = log_distributions(model_, ids);
    for (int t = start == 0 ? 1 : 12; t < 20; ++t, ++count) total -= rows[t - 1][ids[t]];
  }
  const Evaluation found = run(windows_of(20, 8));
  EXPECT_EQ(found.tokens, count);
  EXPECT_EQ(count, 19 + 10 * 8);
  EXPECT_NEAR(found.nll, total / count, 1e-5);
  EXPECT_EQ(run(windows_of(20, 20)).tokens, 5 * 19);
}

TEST_F(Evaluate, ComparesWithAReference) {
  std::vector<double> divergences;
  int agreements = 0;
  for (int64_t start = 0; start + 20 <= 107; start += 20) {
    const auto q = log_distributions(model_, window(start, 20)),
               p = log_distributions(reference_, window(start, 20));
    for (int t = 0; t + 1 < 20; ++t) {
      double divergence = 0;
      for (int i = 0; i < 64; ++i) divergence += std::exp(p[t][i]) * (p[t][i] - q[t][i]);
      divergences.push_back(divergence);
      agreements += std::max_element(p[t].begin(), p[t].end()) - p[t].begin() ==
                    std::max_element(q[t].begin(), q[t].end()) - q[t].begin();
    }
  }
  double mean = 0;
  for (double divergence : divergences) mean += divergence / divergences.size();
  double squares = 0;
  for (double divergence : divergences) squares += (divergence - mean) * (divergence - mean);
  std::sort(divergences.begin(), divergences.end());

  const Evaluation found = run(windows_of(20), true);
  EXPECT_NEAR(*found.kld, mean, 1e-5 * mean);
  EXPECT_NEAR(*found.kld_standard_error, std::sqrt(squares / 94 / 95), 1e-5 * mean);
  // Of 95 values the 99th percentile lies at 93.06.
  EXPECT_NEAR(*found.kld_p99, 0.94 * divergences[93] + 0.06 * divergences[94], 1e-5 * divergences[94]);
  EXPECT_NEAR(*found.top1, agreements / 95.0, 1e-12);
  EXPECT_EQ(found.nll, run(windows_of(20)).nll);
}

TEST_F(Evaluate, FindsNoDivergenceFromItself) {
  Decoder decoder(model_, {});
  const Evaluation found = evaluate(decoder, ids_, windows_of(20), &decoder);
  EXPECT_EQ(*found.kld, 0);
  EXPECT_EQ(*found.top1, 1);
}

TEST_F(Evaluate, DoesNotDependOnBatchesOrOnKeepingWeights) {
  const double expected = run(windows_of(20)).nll;
  for (int64_t batch : {1, 2, 5, 100}) {
    EvaluationOptions options = windows_of(20);
    options.batch = batch;
    EXPECT_NEAR(run(options).nll, expected, 1e-6) << batch;
  }
  DecoderOptions streaming;
  streaming.resident = false;
  Decoder decoder(model_, streaming), reference(reference_, streaming);
  const Evaluation found = evaluate(decoder, ids_, windows_of(20), &reference);
  EXPECT_NEAR(found.nll, expected, 1e-6);
  EXPECT_NEAR(*found.kld, *run(windows_of(20), true).kld, 1e-6);
}

TEST_F(Evaluate, StopsAfterMaxTokens) {
  EvaluationOptions options = windows_of(20);
  options.max_tokens = 59;
  EXPECT_EQ(run(options).tokens, 2 * 19);
  options.max_tokens = 1000;
  EXPECT_EQ(run(options).tokens, 5 * 19);
}

TEST_F(Evaluate, RefusesWhatCannotBe) {
  EXPECT_NE(error_of(windows_of(108)).find("107 tokens, fewer than one window of 108"), std::string::npos);
  EXPECT_THROW(run(windows_of(1)), UsageError);
  EXPECT_THROW(run(windows_of(20, 21)), UsageError);
  EXPECT_THROW(run(windows_of(20, -1)), UsageError);
  ids_[3] = 64;
  EXPECT_NE(error_of(windows_of(20)).find("token id 64"), std::string::npos);
  ids_[3] = -1;
  EXPECT_NE(error_of(windows_of(20)).find("does not fit the vocabulary"), std::string::npos);
  ids_.clear();
  EXPECT_NE(error_of(windows_of(20)).find("the text is empty"), std::string::npos);
}

TEST_F(Evaluate, RefusesAReferenceOfAnotherVocabulary) {
  TinyModel other;
  other.vocab = 65;
  write_tiny_model(directory_ / "other", other);
  const Model larger = open_model(directory_ / "other");
  Decoder decoder(model_, {}), reference(larger, {});
  EXPECT_THROW(evaluate(decoder, ids_, windows_of(20), &reference), Error);
}

TEST(Quantile, InterpolatesBetweenNeighbours) {
  EXPECT_EQ(quantile({}, 0.5), 0);
  EXPECT_EQ(quantile({3}, 0.99), 3);
  EXPECT_EQ(quantile({5, 1, 3}, 0.5), 3);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 2, 3}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 2, 3}, 1), 4);
}

}  // namespace
}  // namespace strata
