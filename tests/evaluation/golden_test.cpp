#include <gtest/gtest.h>

#include <fstream>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/evaluation/evaluate.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

// The bundled model on the bundled novel, whose first and last windows numpy evaluated in double precision.
class Golden : public ::testing::Test {
 protected:
  Golden() : model_(open_model(STRATA_SOURCE_DIR "/models/tiny-llama")), decoder_(model_, {}) {
    set_progress_style(ProgressStyle::Quiet);
    ids_ = tokenize_file(model_, STRATA_SOURCE_DIR "/data/books/the-man-who-was-thursday.txt");
  }

  Model model_;
  Decoder decoder_;
  std::vector<int32_t> ids_;
};

TEST_F(Golden, FirstWindows) {
  EXPECT_EQ(ids_.size(), 85307u);
  EvaluationOptions options;
  options.max_tokens = 2048;
  const Evaluation found = evaluate(decoder_, ids_, options);
  EXPECT_EQ(found.tokens, 2044);
  EXPECT_NEAR(found.nll, 3.50474107, 1e-5);
  EXPECT_NEAR(found.nll_standard_error, 0.06303000, 1e-6);
}

// Four windows, and 315 tokens that fill none.
TEST_F(Golden, LastWindows) {
  const Evaluation found = evaluate(decoder_, {ids_.end() - (4 * 512 + 315), ids_.end()}, {});
  EXPECT_EQ(found.tokens, 2044);
  EXPECT_NEAR(found.nll, 3.29738228, 1e-5);
  EXPECT_NEAR(found.nll_standard_error, 0.06160569, 1e-6);
}

// The bundled mixture of experts. transformers 5.24 evaluated the same windows, with the embedding in fp16.
TEST(GoldenExperts, FirstWindows) {
  set_progress_style(ProgressStyle::Quiet);
  const Model model = open_model(STRATA_SOURCE_DIR "/models/tiny-moe.gguf");
  Decoder decoder(model, {});
  EvaluationOptions options;
  options.max_tokens = 2048;
  const auto ids = tokenize_file(model, STRATA_SOURCE_DIR "/data/books/the-man-who-was-thursday.txt");
  EXPECT_NEAR(evaluate(decoder, ids, options).nll, 3.759266, 1e-4);
}

TEST(TokenizeFile, NamesAnEmptyTextAndATokenizerOfAnotherModel) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "empty.txt").flush();
  const Model model = open_model(STRATA_SOURCE_DIR "/models/tiny-llama");
  EXPECT_THROW(tokenize_file(model, directory / "empty.txt"), Error);
  EXPECT_THROW(tokenize_file(model, directory / "missing.txt"), Error);

  TinyModel small;
  small.tokenizer = true;
  write_tiny_model(directory / "small", small);
  std::ofstream(directory / "text.txt") << "Some text.";
  try {
    tokenize_file(open_model(directory / "small"), directory / "text.txt");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("8192 tokens"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace strata
