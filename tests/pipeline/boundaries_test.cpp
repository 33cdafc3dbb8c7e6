#include "strata/pipeline/boundaries.h"

#include <gtest/gtest.h>

#include "strata/gguf/file.h"
#include "strata/model/model.h"
#include "strata/pipeline/file_label.h"
#include "strata/pipeline/quantize.h"
#include "tests/support/multimodal_model.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

// A model whose embedding is larger than its layers; with a head of its own or without.
class ChosenBoundaries : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    Json config = small_config("llama");
    config["tie_word_embeddings"] = GetParam();
    write_random_model(directory_ / "model", config, DType::F32);
    request_.model = directory_ / "model";
    request_.output = directory_ / "out.gguf";
    request_.method = "uniform:exact";
    request_.quantizer.name = "rtn";
    request_.schemes = "Q4_0,Q4_1,Q5_0,Q5_1,Q8_0";
    request_.workbench.calibration.tokens = 64;
    request_.workbench.calibration.window = 16;
  }

  // The file of a plan that counts bits of the layers alone.
  QuantizeResult with_fixed(const std::string& embedding, const std::string& head) {
    QuantizeRequest request = request_;
    request.boundaries.embedding = embedding;
    request.boundaries.head = head;
    request.allocator.budget.bits_per_weight = 5.2;
    return quantize(request);
  }

  // What the costs of a result's scores say of embedding and head in the types of another file.
  static double cost_of_boundaries(const Scores& scores, const ExportPlan& exported, const Model& model) {
    double sum = 0;
    for (const AllocationModule& boundary : scores.boundaries)
      for (const Cost& cost : scores.costs)
        if (cost.tensor == boundary.tensor &&
            cost.scheme == (boundary.tensor == model.embedding ? exported.embedding : exported.head).name())
          sum += cost.cost;
    return sum;
  }

  std::string stored_type(const std::string& tensor) const {
    return std::string(traits_of(GgufFile(request_.output).find_tensor(tensor)->type).name);
  }

  TemporaryDirectory directory_;
  QuantizeRequest request_;
};

TEST_P(ChosenBoundaries, CostNoMoreThanFixedOnesInAFileOfTheSameSize) {
  for (const char* method : {"uniform:exact", "kl", "mxq", "output-error", "kl:quadratic"}) {
    SCOPED_TRACE(method);
    request_.method = method;
    if (request_.method != "uniform:exact") request_.workbench.calibration.source = "self";
    const QuantizeResult fixed = with_fixed("Q5_1", "Q5_1");
    // Padding and the file's label as they may be at most.
    request_.allocator.budget.bytes =
        fixed.exported.file_bytes + 31 * 17 + longest_label().front().second.size();
    const QuantizeResult chosen = quantize(request_);
    EXPECT_LE(chosen.exported.file_bytes, *request_.allocator.budget.bytes);
    const Model model = open_model(request_.model);
    ASSERT_EQ(chosen.scores.boundaries.size(), GetParam() ? 1u : 2u);
    double layers = 0;
    for (const Assignment& assignment : fixed.plan.assignments)
      for (const Cost& cost : chosen.scores.costs)
        if (cost.tensor == assignment.tensor && cost.scheme == assignment.scheme.name()) layers += cost.cost;
    EXPECT_LE(*chosen.plan.cost,
              layers + cost_of_boundaries(chosen.scores, fixed.exported_plan, model) * (1 + 1e-9));
    EXPECT_EQ(stored_type("token_embd.weight"), chosen.exported_plan.embedding.name());
    if (!GetParam()) {
      EXPECT_EQ(stored_type("output.weight"), chosen.exported_plan.head.name());
    }
    EXPECT_EQ(*chosen.plan.embedding, chosen.exported_plan.embedding);
    EXPECT_EQ(chosen.plan.head_bits.has_value(), !GetParam());
  }
}

TEST_P(ChosenBoundaries, ArePartOfThePlanThatIsSaved) {
  request_.allocator.budget.bytes = with_fixed("Q5_1", "Q5_1").exported.file_bytes;
  const QuantizeResult chosen = quantize(request_);
  write_plan(directory_ / "plan.json", chosen.plan);
  request_.allocator.budget = {};
  request_.plan = directory_ / "plan.json";
  const QuantizeResult again = quantize(request_);
  EXPECT_EQ(again.exported_plan.embedding, chosen.exported_plan.embedding);
  EXPECT_EQ(again.exported_plan.head, chosen.exported_plan.head);
  EXPECT_EQ(again.exported.file_bytes, chosen.exported.file_bytes);
  EXPECT_NEAR(*chosen.plan.file_bits,
              8.0 * static_cast<double>(chosen.exported.file_bytes) /
                  static_cast<double>(2 * (64 * 64 * 6 + 3 * 64 * 96 + 2 * 64) + 64 +
                                      (GetParam() ? 1 : 2) * 320 * 64),
              0.5);
}

TEST_P(ChosenBoundaries, StayAsTheyWereAskedFor) {
  request_.allocator.budget.bytes = with_fixed("Q8_0", "Q8_0").exported.file_bytes;
  request_.boundaries.embedding = request_.boundaries.head = "Q8_0";
  const QuantizeResult result = quantize(request_);
  EXPECT_EQ(result.exported_plan.embedding.name(), "Q8_0");
  EXPECT_TRUE(result.scores.boundaries.empty());
  EXPECT_TRUE(result.notes.empty());
}

// Bits count the layers alone.
TEST_P(ChosenBoundaries, BitsAWeightLeaveThemAsTheyAre) {
  request_.allocator.budget.bits_per_weight = 5.2;
  const QuantizeResult result = quantize(request_);
  EXPECT_EQ(result.exported_plan.head.name(), "Q6_K");
  EXPECT_TRUE(result.scores.boundaries.empty());
  EXPECT_EQ(*result.plan.embedding_bits, GetParam() ? 8.5 : 5.5);  // rows of 64 fall back to Q8_0 and Q5_0
}

TEST_P(ChosenBoundaries, ANoteSaysWhyTheyAreNot) {
  request_.schemes = "";
  request_.format = "gptq_v2";
  request_.output = directory_ / "gptq";
  const uint64_t companions = 30000;  // at most
  request_.allocator.budget.bytes = with_fixed("auto", "auto").exported.file_bytes + companions;
  const QuantizeResult packed = quantize(request_);
  ASSERT_FALSE(packed.notes.empty());
  EXPECT_NE(packed.notes.back().find("gptq_v2 does not pack it"), std::string::npos) << packed.notes.back();
  EXPECT_FALSE(packed.plan.embedding);
  EXPECT_EQ(*packed.plan.embedding_bits, 32);

  request_.format = "gguf";
  request_.output = directory_ / "out.gguf";
  request_.method = "uniform";
  request_.schemes = "Q4_0,Q5_0,Q8_0";
  request_.allocator.budget.bytes = with_fixed("auto", "auto").exported.file_bytes;
  const QuantizeResult uniform = quantize(request_);
  EXPECT_NE(uniform.notes.back().find("the allocator uniform looks at layers alone"), std::string::npos);
  EXPECT_EQ(uniform.exported_plan.head.name(), "Q6_K");
}

TEST_P(ChosenBoundaries, PackedDirectoriesHoldThem) {
  for (const char* format : {"mlx", "strata"}) {
    SCOPED_TRACE(format);
    request_.format = format;
    request_.schemes = "w3g32,w4g32,w8g32";
    request_.output = directory_ / format;
    request_.allocator.budget.bytes = 120000;
    const QuantizeResult result = quantize(request_);
    EXPECT_EQ(result.exported_plan.embedding.kind, Scheme::Kind::Affine);
    EXPECT_LE(result.exported.file_bytes, 120000u);
    const Model written = open_model(request_.output);
    EXPECT_EQ(written.checkpoint->info(written.embedding).type, result.exported_plan.embedding.name());
  }
}

INSTANTIATE_TEST_SUITE_P(Tied, ChosenBoundaries, testing::Values(true, false),
                         [](const auto& tied) { return tied.param ? "AsOne" : "Apart"; });

// Those of another tower, 15 weights, are in a directory and not in a GGUF.
TEST(BitsOfMultimodalFiles, CountTheWeightsThatTheyHold) {
  const TemporaryDirectory directory;
  const ArchitectureModel fixture = architecture_model("gemma3");
  write_multimodal(fixture, "model.language_model.", directory / "model");
  double weights = 0;
  const auto checkpoint = open_safetensors(fixture.directory);
  for (const TensorInfo& tensor : checkpoint->tensors()) weights += static_cast<double>(tensor.elements());
  const auto bits_of = [&](const std::string& output, const std::string& schemes, double bits_per_weight) {
    QuantizeRequest request;
    request.model = directory / "model";
    request.output = directory / output;
    request.method = "uniform:exact";
    request.quantizer.name = "rtn";
    request.schemes = schemes;
    if (output == "directory") request.format = "mlx";
    request.allocator.budget.bits_per_weight = bits_per_weight;
    const QuantizeResult result = quantize(request);
    return std::pair(*result.plan.file_bits, 8.0 * static_cast<double>(result.exported.file_bytes));
  };
  const auto [of_gguf, gguf_bits] = bits_of("model.gguf", "Q8_0", 8.5);
  EXPECT_NEAR(of_gguf, gguf_bits / weights, 1e-9 * of_gguf);
  const auto [of_directory, directory_bits] = bits_of("directory", "w8g32", 9);
  EXPECT_NEAR(of_directory, directory_bits / (weights + 15), 1e-9 * of_directory);
}

}  // namespace
}  // namespace strata
