// Models whose windows a GGUF has no place for: all rows are measured as llama.cpp runs the file.
#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/pipeline/quantize.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class SlidingWindows : public testing::Test {
 protected:
  SlidingWindows() {
    set_progress_style(ProgressStyle::Quiet);
    Json config = small_config("mistral");
    config["sliding_window"] = 4;
    write_random_model(directory_ / "model", config, DType::F32);
    write_text(directory_ / "text", std::string(600, 'i') + "n" + std::string(600, 'n'));
    request_.model = directory_ / "model";
    request_.method = "weight-error";
    request_.quantizer.name = "rtn";
    request_.schemes = "Q8_0";
    request_.allocator.budget.bits_per_weight = 9;
    request_.text = directory_ / "text";
    request_.evaluation.window = 64;
  }

  QuantizeResult write(const char* format, const char* name) {
    request_.format = format;
    request_.output = directory_ / name;
    return quantize(request_);
  }

  TemporaryDirectory directory_;
  QuantizeRequest request_;
};

TEST_F(SlidingWindows, AreLeftOutOfAllRowsOfAGguf) {
  const QuantizeResult result = write("gguf", "out.gguf");
  ASSERT_FALSE(result.notes.empty());
  EXPECT_NE(result.notes.front().find("see the last 4 tokens"), std::string::npos) << result.notes.front();
  ASSERT_EQ(result.measurements.size(), 3u);
  // Eight bits lose next to nothing; another window would.
  for (size_t row = 1; row < 3; ++row) EXPECT_LT(*result.measurements[row].evaluation.kld, 1e-3) << row;
}

TEST_F(SlidingWindows, StayInADirectory) {
  request_.schemes = "w8g64";
  const QuantizeResult kept = write("hf", "out");
  const double with_window = kept.measurements.front().evaluation.ppl;
  request_.schemes = "Q8_0";
  const double without = write("gguf", "out.gguf").measurements.front().evaluation.ppl;
  EXPECT_GT(std::abs(with_window - without), 1e-3 * without);
  for (const std::string& note : kept.notes) EXPECT_EQ(note.find("see the last"), std::string::npos) << note;
}

// What was measured with windows is not taken for what is measured without.
TEST_F(SlidingWindows, AreKeptApartInACache) {
  request_.method = "kl";
  request_.workbench.calibration.source = directory_ / "text";
  request_.workbench.calibration.tokens = 128;
  request_.workbench.calibration.window = 32;
  request_.schemes = "Q4_0,Q8_0";
  request_.allocator.budget.bits_per_weight = 6;
  const QuantizeResult fresh = write("gguf", "fresh.gguf");
  request_.workbench.cache = directory_ / "cache";
  QuantizeRequest with_windows = request_;
  with_windows.format = "hf";
  with_windows.output = directory_ / "hf";
  quantize(with_windows);
  const QuantizeResult after = write("gguf", "after.gguf");
  EXPECT_EQ(to_json(after.plan).dump(), to_json(fresh.plan).dump());
  EXPECT_EQ(read_text(directory_ / "after.gguf"), read_text(directory_ / "fresh.gguf"));
}

}  // namespace
}  // namespace strata
