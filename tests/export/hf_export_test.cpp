#include <cmath>
#include <fstream>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/export/hf_files.h"
#include "strata/quantization/quantizer.h"
#include "tests/export/export_test_model.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

class HfExportTest : public ExportTest {};

uint64_t bytes_in(const fs::path& directory) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory)) bytes += entry.file_size();
  return bytes;
}

TEST_F(HfExportTest, HoldsTheDequantizedWeights) {
  const Model model = make_model("qwen2", {{"tie_word_embeddings", false}}, DType::F16);
  for (const char* name : {"w3g64", "w4g32s", "w2row", "w4g64m", "w3g64a0", "Q4_0", "Q8_0"}) {
    SCOPED_TRACE(name);
    const ExportPlan plan = uniform_plan(model, name, "w8g64");
    const ExportResult result = export_hf(model, plan, target("out"));
    EXPECT_EQ(result.file_bytes, bytes_in(target("out")));
    const Model back = open_model(target("out"));
    double error = 0;
    uint64_t bits = 0;
    for (const ExpectedTensor& tensor : expected_tensors(model.config)) {
      const TensorInfo& info = model.checkpoint->info(tensor.name);
      std::vector<float> expected = model.checkpoint->read(tensor.name);
      const bool planned = plan.schemes.count(tensor.name) > 0;
      if (info.shape.size() > 1) {
        const Scheme scheme = planned ? plan.schemes.at(tensor.name) : plan.embedding;
        const double one = fake_quantize({expected.data(), info.rows(), info.cols()}, scheme, plan.quantizer);
        if (planned) error += one;
        if (planned) bits += scheme.stored_bits(info.rows(), info.cols());
      }
      for (float& value : expected) value = half_to_float(float_to_half(value));
      EXPECT_EQ(back.checkpoint->read(tensor.name), expected) << tensor.name;
      EXPECT_EQ(back.checkpoint->info(tensor.name).type, "F16");
    }
    EXPECT_NEAR(result.squared_error, error, 1e-9 * error);
    EXPECT_EQ(result.weight_bits, bits);
  }
}

// A chunk of rows and the whole matrix give the same weights.
TEST_F(HfExportTest, LargeMatricesGoInPieces) {
  const Model model =
      make_model("llama", {{"num_hidden_layers", 1}, {"vocab_size", 70000}, {"intermediate_size", 64}});
  const ExportPlan plan = uniform_plan(model, "w4g64", "w4g32");
  export_hf(model, plan, target("out"));
  std::vector<float> expected = model.checkpoint->read(model.embedding);
  fake_quantize({expected.data(), 70000, 64}, plan.embedding, plan.quantizer);
  EXPECT_EQ(open_model(target("out")).checkpoint->read(model.embedding), expected);
}

TEST_F(HfExportTest, EqualsTheGgufOfTheSamePlan) {
  const Model model = make_model("llama", {{"hidden_size", 256}, {"intermediate_size", 512}});
  ExportPlan plan = uniform_plan(model, "Q4_K", "Q6_K");
  const std::vector<std::string> types = {"Q2_K", "Q3_K", "Q5_K", "Q6_K", "IQ4_NL", "Q5_0"};
  for (size_t i = 0; i < types.size(); ++i) plan.schemes[model.modules[i].tensor] = parse_scheme(types[i]);
  const ExportResult gguf = export_gguf(model, plan, target("out.gguf"));
  const ExportResult hf = export_hf(model, plan, target("out"));
  EXPECT_NEAR(gguf.squared_error, hf.squared_error, 1e-6 * hf.squared_error);
  EXPECT_EQ(gguf.weight_bits, hf.weight_bits);
  const Model a = open_model(target("out.gguf")), b = open_model(target("out"));
  for (const ExpectedTensor& tensor : expected_tensors(model.config))
    EXPECT_EQ(a.checkpoint->read(tensor.name), b.checkpoint->read(tensor.name)) << tensor.name;
}

TEST_F(HfExportTest, FilesBesideTheWeightsAreCopied) {
  const Model model = make_model("llama");
  std::ofstream(target("model") / "generation_config.json") << "{\"temperature\": 0.5}";
  std::ofstream(target("model") / "notes.txt") << "not the model's";
  export_hf(model, uniform_plan(model, "w8g64", "F32"), target("out"));
  for (const char* name :
       {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"})
    EXPECT_EQ(read_text(target("out") / name), read_text(target("model") / name)) << name;
  EXPECT_FALSE(fs::exists(target("out") / "notes.txt"));
}

TEST_F(HfExportTest, AnEarlierExportIsReplaced) {
  const Model model = make_model("llama");
  export_hf(model, uniform_plan(model, "w2g64", "F32"), target("out"));
  std::ofstream(target("out") / "leftover.safetensors") << "x";
  export_hf(model, uniform_plan(model, "F32", "F32"), target("out"));
  EXPECT_FALSE(fs::exists(target("out") / "leftover.safetensors"));
  const std::string q = model.modules[0].tensor;
  EXPECT_EQ(open_model(target("out")).checkpoint->read(q), model.checkpoint->read(q));
  EXPECT_EQ(written(), std::vector<std::string>{"out"});
}

TEST_F(HfExportTest, AGgufBecomesADirectory) {
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  const std::vector<std::pair<std::string, Json>> cases = {
      {"llama", {{"attention_bias", true}, {"mlp_bias", true}}},
      {"llama", {{"rope_scaling", llama3}, {"rope_theta", 500000.0}}},
      {"mistral", {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}},
      {"qwen2", {{"tie_word_embeddings", false}, {"head_dim", 16}}},
      {"qwen3", Json::object()},
  };
  for (const auto& [architecture, changes] : cases) {
    SCOPED_TRACE(architecture);
    const Model model = make_model(architecture, changes);
    export_gguf(model, uniform_plan(model, "F32", "F32"), target("out.gguf"));
    const Model gguf = open_model(target("out.gguf"));
    export_hf(gguf, uniform_plan(gguf, "F32", "F32"), target("out"));
    const Model back = open_model(target("out"));
    for (const ExpectedTensor& tensor : expected_tensors(model.config))
      EXPECT_EQ(back.checkpoint->read(tensor.name), model.checkpoint->read(tensor.name)) << tensor.name;
    EXPECT_EQ(back.config.rope.scaling.type, model.config.rope.scaling.type);
    EXPECT_EQ(back.config.rope.scaling.factor, model.config.rope.scaling.factor);
    EXPECT_EQ(back.config.rope.theta, model.config.rope.theta);
    EXPECT_EQ(back.config.head_dim, model.config.head_dim);
    EXPECT_EQ(back.config.tied_embeddings, model.config.tied_embeddings);
    EXPECT_EQ(back.config.attention_bias, model.config.attention_bias);
    const std::string sample = "Two words, 12 <|end|>";
    EXPECT_EQ(make_tokenizer(back.vocabulary())->encode(sample),
              make_tokenizer(model.vocabulary())->encode(sample));
    fs::remove(target("out.gguf"));
  }
}

TEST_F(HfExportTest, DivisorsThatFollowNoRuleAreRefused) {
  ModelConfig config = make_model("llama").config;
  config.rope.scaling.type = RopeScaling::Type::Divisors;
  config.rope.scaling.divisors.assign(16, 3.5f);
  config.rope.scaling.divisors[0] = 1;
  const std::string message = error_of([&] { config_json(config, "float16", "some.gguf"); });
  EXPECT_NE(message.find("rope_freqs.weight of some.gguf"), std::string::npos) << message;
}

}  // namespace
}  // namespace strata
