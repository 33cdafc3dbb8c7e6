// What a file says of itself: in every way of storing it, held against what is stored.
#include "strata/pipeline/file_label.h"

#include <gtest/gtest.h>

#include <map>

#include "strata/core/progress.h"
#include "strata/export/label.h"
#include "strata/gguf/file.h"
#include "strata/model/gguf_names.h"
#include "strata/model/model.h"
#include "strata/pipeline/verify.h"
#include "tests/support/files.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class FileLabel : public testing::Test {
 protected:
  FileLabel() {
    set_progress_style(ProgressStyle::Quiet);
    write_random_model(directory_ / "model", small_config("llama"), DType::F32);
    request_.model = directory_ / "model";
    request_.output = directory_ / "out.gguf";
    request_.method = "uniform:exact";
    request_.quantizer.name = "rtn";
    request_.schemes = "Q4_0,Q5_0,Q8_0";
    request_.allocator.budget.bits_per_weight = 5.2;
    request_.program = "strata 9.8.7";
  }

  static std::map<std::string, std::string> label_in(const std::filesystem::path& path) {
    const Label label = read_label(open_model(path));
    return {label.begin(), label.end()};
  }

  TemporaryDirectory directory_;
  QuantizeRequest request_;
};

TEST_F(FileLabel, SaysHowAGgufWasMade) {
  request_.workbench.calibration.source = "self";
  request_.workbench.calibration.tokens = 64;
  request_.workbench.calibration.window = 16;
  request_.method = "output-error";
  const QuantizeResult result = quantize(request_);
  std::map<std::string, std::string> label = label_in(request_.output);
  EXPECT_EQ(label["program"], "strata 9.8.7");
  EXPECT_EQ(label["method"], "output-error");
  EXPECT_EQ(label["allocator"], "exact");
  EXPECT_EQ(label["quantizer"], "rtn");
  EXPECT_EQ(label["budget"], "5.2 bpw");
  EXPECT_NEAR(std::stod(label["bits_per_weight"]), result.plan.bits_per_weight, 5e-5);
  EXPECT_NE(label["calibration"].find("64 tokens"), std::string::npos) << label["calibration"];
}

TEST_F(FileLabel, StandsInTheConfigOfADirectory) {
  request_.output = directory_ / "out";
  request_.format = "hf";
  quantize(request_);
  EXPECT_EQ(label_in(request_.output).at("quantizer"), "rtn");
  // Dequantized weights take more than the plan's bits.
  EXPECT_EQ(label_in(request_.output).count(kLabelOfBits), 0u);
  EXPECT_EQ(label_in(request_.output).count("planned_bits_per_weight"), 1u);
  EXPECT_EQ(read_json(request_.output / "config.json").at("strata").at("method"), "uniform");
}

TEST_F(FileLabel, GivesWayToThatOfALaterFile) {
  quantize(request_);
  QuantizeRequest second = request_;
  second.model = request_.output;
  second.output = directory_ / "again.gguf";
  second.program = "strata 9.9.9";
  quantize(second);
  const Label label = read_label(open_model(second.output));
  EXPECT_EQ(std::count_if(label.begin(), label.end(), [](const auto& e) { return e.first == "program"; }), 1);
  EXPECT_EQ(label.front(), (std::pair<std::string, std::string>{"program", "strata 9.9.9"}));
}

TEST_F(FileLabel, IsCountedInASizeAskedFor) {
  request_.allocator.budget.bits_per_weight.reset();
  request_.program = std::string(64, 'x');
  const struct {
    const char *format, *menu, *one;
  } ways[] = {{"gguf", "Q4_0,Q5_0,Q8_0", "Q5_0"}, {"mlx", "w3g32,w4g32,w8g32", "w4g32"}};
  for (const auto& [format, menu, one] : ways) {
    request_.format = format;
    request_.output = directory_ / format;
    QuantizeRequest uniform = request_;
    uniform.allocator.budget.bits_per_weight = 8;
    uniform.schemes = one;
    request_.schemes = menu;
    request_.allocator.budget.bytes = quantize(uniform).exported.file_bytes;
    EXPECT_LE(quantize(request_).exported.file_bytes, *request_.allocator.budget.bytes) << format;
    request_.allocator.budget.bytes.reset();
  }
}

// Rows that 256 does not divide.
TEST_F(FileLabel, NamesTheTypesThatAreStored) {
  request_.schemes = "Q2_K,Q3_K,Q6_K";
  request_.allocator.budget.bits_per_weight = 6;
  request_.boundaries.embedding = "Q4_K";
  const QuantizeResult result = quantize(request_);
  const GgufFile file(request_.output);
  for (const Assignment& assignment : result.plan.assignments) {
    const std::string name = gguf_name(open_model(request_.model).config, assignment.tensor);
    EXPECT_EQ(assignment.scheme.name(), traits_of(file.find_tensor(name)->type).name) << name;
  }
  EXPECT_EQ(result.plan.embedding->name(), traits_of(file.find_tensor("token_embd.weight")->type).name);
  ASSERT_FALSE(result.notes.empty());
  EXPECT_NE(result.notes.back().find("Q8_0 for Q6_K in "), std::string::npos) << result.notes.back();
}

TEST_F(FileLabel, IsHeldAgainstWhatIsStored) {
  quantize(request_);
  EXPECT_EQ(verify(request_.output, std::nullopt).faults, std::vector<std::string>());
  std::string bytes = read_text(request_.output);
  const std::string said = label_in(request_.output).at("bits_per_weight");
  const size_t at = bytes.find(said, bytes.find("quantize.strata.bits_per_weight"));
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, said.size(), "3.0000");
  write_text(request_.output, bytes);
  EXPECT_EQ(
      verify(request_.output, std::nullopt).faults,
      std::vector<std::string>{"the label says 3.0000 bits a weight; the layers' matrices have " + said});
}

}  // namespace
}  // namespace strata
