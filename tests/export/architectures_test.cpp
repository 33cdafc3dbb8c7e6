// Every architecture against transformers, as a directory, through GGUF, and through GGUF into a directory.

#include <gtest/gtest.h>

#include "strata/checkpoint/checkpoint.h"
#include "strata/core/json.h"
#include "strata/core/progress.h"
#include "strata/export/export.h"
#include "strata/export/hf_files.h"
#include "strata/forward/decoder.h"
#include "strata/forward/incremental_decoder.h"
#include "strata/gguf/file.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

constexpr double kTolerance = 1e-4;

class Architectures : public testing::TestWithParam<std::string> {
 protected:
  at::Tensor logits_of(const std::filesystem::path& path) const {
    const Model model = open_model(path);
    return Decoder(model, {}).forward(fixture_.ids)[0];
  }

  std::filesystem::path as_gguf() const {
    const std::filesystem::path path = directory_ / "model.gguf";
    const Model model = open_model(fixture_.directory);
    ExportPlan plan;
    plan.embedding = plan.head = parse_scheme("F32");
    export_gguf(model, plan, path);
    return path;
  }

  const ArchitectureModel fixture_ = architecture_model(GetParam());
  const TemporaryDirectory directory_;
};

TEST_P(Architectures, ComputeWhatTransformersComputes) {
  EXPECT_LT(relative_difference(with_logits(logits_of(fixture_.directory)), fixture_.logits), kTolerance);
}

TEST_P(Architectures, ComputeTheSameTokenByToken) {
  const Model model = open_model(fixture_.directory);
  Decoder decoder(model, {});
  const int64_t length = fixture_.ids.size(1);
  IncrementalDecoder incremental(decoder, 1, length);
  std::vector<at::Tensor> steps;
  for (int64_t t = 0; t < length; ++t) steps.push_back(incremental.step(fixture_.ids.select(1, t))[0]);
  const at::Tensor found = with_logits(at::stack(steps));
  for (int64_t row = 0; row < found.size(0); ++row)
    EXPECT_LT(relative_difference(found[row], fixture_.logits[row]), kTolerance) << row;
}

// Some GGUF files have no sliding window, since llama.cpp's graph has none.
TEST_P(Architectures, ComputeTheSameFromGguf) {
  const ModelConfig config = open_model(fixture_.directory).config;
  const std::string refusal = gguf_refusal_of(config);
  if (!refusal.empty()) {
    EXPECT_NE(error_of([&] { as_gguf(); }).find(refusal), std::string::npos);
    return;
  }
  const std::filesystem::path gguf = as_gguf();
  if (config.sliding_window > 0 && architecture_of(config).read_gguf == nullptr) {
    EXPECT_EQ(open_model(gguf).config.sliding_window, 0);
    return;
  }
  EXPECT_LT(relative_difference(with_logits(logits_of(gguf)), fixture_.logits), kTolerance);

  // A directory written from the GGUF alone, with all that is in it.
  const Notes notes;
  const Model model = open_model(gguf);
  ExportPlan plan;
  plan.embedding = plan.head = parse_scheme("F32");
  export_hf(model, plan, directory_ / "directory");
  EXPECT_EQ(read_json(directory_ / "directory" / "config.json")["architectures"],
            read_json(fixture_.directory / "config.json")["architectures"]);
  EXPECT_EQ(notes.list(), std::vector<std::string>());
  EXPECT_LT(relative_difference(with_logits(logits_of(directory_ / "directory")), fixture_.logits),
            kTolerance);
}

// Ministral 3 with other words for its rope, which llama.cpp's keys cannot say.
TEST(ArchitectureRefusals, NameWhatTheRopeOfGgufFilesCannotSay) {
  const ArchitectureModel fixture = architecture_model("ministral3");
  const TemporaryDirectory directory;
  std::filesystem::copy(fixture.directory, directory / "model");
  const Json whole = read_json(fixture.directory / "config.json");
  const auto refused = [&](const Json& rope, const std::string& mentioned) {
    Json config = whole;
    config["rope_parameters"].update(rope);
    write_text(directory / "model" / "config.json", config.dump());
    const Model model = open_model(directory / "model");
    ExportPlan plan;
    plan.embedding = plan.head = parse_scheme("F32");
    const std::string message = error_of([&] { export_gguf(model, plan, directory / "model.gguf"); });
    EXPECT_NE(message.find(mentioned), std::string::npos) << message;
    EXPECT_NE(message.find("--format hf"), std::string::npos) << message;
    EXPECT_FALSE(std::filesystem::exists(directory / "model.gguf"));
    export_hf(model, plan, directory / "directory");  // holds it
    std::filesystem::remove_all(directory / "directory");
  };
  refused({{"truncate", false}}, "YaRN whose ends are not whole dimensions");
  refused({{"rope_type", "default"}}, "queries that grow without YaRN");
}

// A model whose last layer predicts further tokens: directories keep it, a GGUF does without it, and what a
// GGUF has of it stays there.
TEST(FurtherLayers, AreKeptOrNamed) {
  const ArchitectureModel fixture = architecture_model("glm4-moe");
  const TemporaryDirectory directory;
  std::filesystem::copy(fixture.directory, directory / "model");
  Json config = read_json(fixture.directory / "config.json");
  config["num_hidden_layers"] = config["num_nextn_predict_layers"] = 1;
  write_text(directory / "model" / "config.json", config.dump());
  const Model model = open_model(directory / "model");
  ExportPlan plan;
  plan.embedding = plan.head = parse_scheme("F32");
  export_hf(model, plan, directory / "again");
  const std::string further = "model.layers.1.mlp.experts.3.up_proj.weight";
  EXPECT_EQ(open_safetensors(directory / "again")->read(further),
            open_safetensors(fixture.directory)->read(further));
  testing::internal::CaptureStderr();
  export_gguf(model, plan, directory / "without.gguf");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("such as model.layers.1."), std::string::npos);
  EXPECT_EQ(GgufFile(directory / "without.gguf").find_tensor("blk.1.attn_q.weight"), nullptr);

  // A GGUF of both layers that says so of the second.
  export_gguf(open_model(fixture.directory), plan, directory / "both.gguf");
  const GgufFile both(directory / "both.gguf");
  std::vector<GgufKey> keys = both.keys();
  keys.push_back({"glm4moe.nextn_predict_layers", gguf_u32(1)});
  GgufWriter writer(directory / "with.gguf", keys, both.tensors());
  for (const GgufTensor& tensor : both.tensors()) writer.write(both.data(tensor), tensor.bytes());
  writer.commit();
  const Model with = open_model(directory / "with.gguf");
  EXPECT_EQ(with.config.num_layers, 1);
  const at::Tensor ids = fixture.ids;
  EXPECT_TRUE(at::equal(Decoder(with, {}).forward(ids),
                        Decoder(open_model(directory / "without.gguf"), {}).forward(ids)));
  for (const Module& module : with.modules) plan.schemes[module.tensor] = parse_scheme("Q8_0");
  export_gguf(with, plan, directory / "quantized.gguf");
  const GgufFile quantized(directory / "quantized.gguf");
  EXPECT_EQ(quantized.find_tensor("blk.0.attn_q.weight")->type, GgufType::Q8_0);
  EXPECT_EQ(quantized.find_tensor("blk.1.attn_q.weight")->type, GgufType::F16);
  testing::internal::CaptureStderr();
  plan.schemes.clear();
  export_hf(with, plan, directory / "from-gguf");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("such as blk.1."), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Models, Architectures, testing::ValuesIn(architecture_models()),
                         [](const auto& name) { return test_name(name.param); });

}  // namespace
}  // namespace strata
