#include <gtest/gtest.h>

#include <filesystem>

#include "strata/pipeline/quantize.h"
#include "tests/support/error_of.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

// Scores are read, or measured, behind all that can be known before.
TEST(EarlyRefusals, NameWhatTheFormatLacksBeforeAnythingIsMeasured) {
  const TemporaryDirectory directory;
  write_random_model(directory / "model", small_config("llama"), DType::F32);
  std::filesystem::remove(directory / "model" / "tokenizer.json");
  QuantizeRequest request;
  request.model = directory / "model";
  request.scores = directory / "nowhere.json";
  request.allocator.budget.bits_per_weight = 5;
  request.schemes = "Q4_0,Q8_0";
  request.output = directory / "out.gguf";
  EXPECT_NE(error_of([&] { quantize(request); }).find("has no tokenizer.json"), std::string::npos);
  request.schemes = "w4g32z,w8g32z";
  request.output = directory / "out";
  request.format = "compressed-tensors";
  EXPECT_NE(error_of([&] { quantize(request); }).find("nowhere.json"), std::string::npos);
}

}  // namespace
}  // namespace strata
