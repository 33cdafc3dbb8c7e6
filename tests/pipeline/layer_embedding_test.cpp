// The scheme of embeddings for every layer, in plans and in files.

#include <gtest/gtest.h>

#include "strata/gguf/file.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/quantize.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class LayerEmbeddingScheme : public testing::Test {
 protected:
  void SetUp() override {
    request_.model = fixture_.directory;
    request_.output = directory_ / "out.gguf";
    request_.method = "uniform:exact";
    request_.quantizer.name = "rtn";
    request_.schemes = "Q4_0,Q5_0,Q8_0";
    request_.allocator.budget.bits_per_weight = 5.5;
  }

  std::string stored(const std::string& tensor) const {
    return std::string(traits_of(GgufFile(request_.output).find_tensor(tensor)->type).name);
  }

  const ArchitectureModel fixture_ = architecture_model("gemma4-e2b");
  const TemporaryDirectory directory_;
  QuantizeRequest request_;
};

// Rows of 160 fall back from Q4_K to Q5_0.
TEST_F(LayerEmbeddingScheme, IsItsOwnOrThatOfTheEmbedding) {
  quantize(request_);
  EXPECT_EQ(stored("per_layer_token_embd.weight"), "Q5_0");
  EXPECT_EQ(stored("per_layer_model_proj.weight"), "F16");
  request_.boundaries.embedding = "Q8_0";
  quantize(request_);
  EXPECT_EQ(stored("per_layer_token_embd.weight"), "Q8_0");
  request_.boundaries.layer_embedding = "Q4_1";
  const QuantizeResult result = quantize(request_);
  EXPECT_EQ(stored("per_layer_token_embd.weight"), "Q4_1");
  EXPECT_EQ(stored("token_embd.weight"), "Q8_0");
  EXPECT_EQ(*result.plan.layer_embedding_bits, 5);
}

TEST_F(LayerEmbeddingScheme, IsPartOfThePlanThatIsSaved) {
  request_.boundaries.layer_embedding = "Q4_1";
  const QuantizeResult first = quantize(request_);
  write_plan(directory_ / "plan.json", first.plan);
  request_.boundaries.layer_embedding = "auto";
  request_.allocator.budget = {};
  for (const auto& plan : {directory_ / "plan.json", directory_ / "out.gguf"}) {
    request_.plan = plan;
    request_.output = directory_ / "again.gguf";
    EXPECT_EQ(quantize(request_).exported_plan.layer_embedding->name(), "Q4_1") << plan;
    EXPECT_EQ(stored("per_layer_token_embd.weight"), "Q4_1");
  }
}

TEST_F(LayerEmbeddingScheme, IsCountedAsFixedInAFileOfSomeSize) {
  const uint64_t bytes = quantize(request_).exported.file_bytes;
  request_.allocator.budget = {};
  request_.allocator.budget.bytes = bytes;
  EXPECT_LE(quantize(request_).exported.file_bytes, bytes);
  EXPECT_EQ(stored("per_layer_token_embd.weight"), "Q5_0");
  request_.allocator.budget.bytes = 40000;
  const std::string message = error_of([&] { quantize(request_); });
  EXPECT_NE(message.find("smaller --embedding, --head and --layer-embedding"), std::string::npos) << message;
}

// Rows that are quantized as they are read are those of the file.
TEST_F(LayerEmbeddingScheme, ComputesInMemoryWhatTheFileDoes) {
  request_.schemes = "F32";
  request_.allocator.budget = {};
  request_.method = "uniform";
  request_.allocator.budget.bits_per_weight = 32;
  request_.boundaries = {"F32", "F32", "Q4_0"};
  quantize(request_);
  const Model model = open_model(request_.model), written = open_model(request_.output);
  Decoder decoder(model, {}), of_file(written, {});
  const at::Tensor exact = decoder.forward(fixture_.ids);
  apply_schemes(decoder, {{model.layer_embedding, parse_scheme("Q4_0")}}, {});
  const at::Tensor in_memory = decoder.forward(fixture_.ids);
  EXPECT_LT(relative_difference(in_memory, of_file.forward(fixture_.ids)), 1e-5);
  EXPECT_GT(relative_difference(in_memory, exact), 1e-3);
}

TEST_F(LayerEmbeddingScheme, IsRefusedWhereItCannotBe) {
  const auto refused = [&](const std::string& mentioned) {
    const std::string message = error_of([&] { quantize(request_); });
    EXPECT_NE(message.find(mentioned), std::string::npos) << message;
  };
  request_.boundaries.layer_embedding = "w4g32";
  refused("w4g32");
  request_.output = directory_ / "out";
  request_.format = "compressed-tensors";
  request_.schemes = "";
  refused("leave out --embedding, --head and --layer-embedding");
  request_.model = architecture_model("gemma4").directory;
  refused("has no embeddings for every layer; leave out --layer-embedding");
}

}  // namespace
}  // namespace strata
