// Checkpoints that hold more than a text model, and those whose forward pass is not known.

#include <gtest/gtest.h>

#include <tuple>

#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/export/export.h"
#include "strata/export/formats.h"
#include "strata/forward/decoder.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/multimodal_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

ExportPlan whole() {
  ExportPlan plan;
  plan.embedding = plan.head = parse_scheme("F32");
  return plan;
}

double difference(const fs::path& path, const ArchitectureModel& fixture) {
  const Model model = open_model(path);
  return relative_difference(with_logits(Decoder(model, {}).forward(fixture.ids)[0]), fixture.logits);
}

// Fixtures and prefixes.
class Multimodal : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  const TemporaryDirectory directory_;
};

TEST_P(Multimodal, ServesByItsTextModelAndKeepsTheRest) {
  const auto& [name, prefix] = GetParam();
  const ArchitectureModel fixture = architecture_model(name);
  write_multimodal(fixture, prefix, directory_ / "model");
  EXPECT_LT(difference(directory_ / "model", fixture), 1e-4);

  const Model model = open_model(directory_ / "model");
  export_gguf(model, whole(), directory_ / "model.gguf");
  EXPECT_LT(difference(directory_ / "model.gguf", fixture), 1e-4);

  for (const char* format : {"hf", "mlx"}) {
    const fs::path target = directory_ / format;
    const ExportResult result = format_for(target, format).write(model, whole(), target);
    EXPECT_LT(difference(target, fixture), 1e-4) << format;
    const auto written = open_safetensors(target);
    EXPECT_EQ(written->info(kOtherTower).type, "BF16");
    EXPECT_EQ(written->read(kOtherTower), std::vector<float>(15, 0.75f));
    EXPECT_EQ(read_json(target / "config.json")["vision_config"]["layers"], 3);
    EXPECT_GT(result.file_bytes, format_for(target, format).file_size(model, whole()) / 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Prefixes, Multimodal,
                         testing::Combine(testing::Values("gemma3", "qwen3-5"),
                                          testing::Values("model.language_model.", "language_model.model.",
                                                          "language_model.", "")));

// Norms that leave 1 out of their gains, and logarithms of decay rates, come back as they were, to the last
// bit of fp16.
TEST(Vectors, AreStoredAsTheyCame) {
  for (const char* name : {"gemma2", "qwen3-5"}) {
    const TemporaryDirectory directory;
    const ArchitectureModel fixture = architecture_model(name);
    export_hf(open_model(fixture.directory), whole(), directory / "copy");
    const auto before = open_safetensors(fixture.directory), after = open_safetensors(directory / "copy");
    for (const TensorInfo& tensor : before->tensors()) {
      EXPECT_EQ(after->info(tensor.name).shape, tensor.shape) << tensor.name;
      EXPECT_EQ(after->read(tensor.name), before->read(tensor.name)) << tensor.name;
    }
  }
}

class UnknownForwardPass : public testing::Test {
 protected:
  // The fixture with other entries in its config.
  Model changed(const Json& changes) {
    fs::copy(architecture_model("llama").directory, directory_ / "model");
    Json config = read_json(directory_ / "model" / "config.json");
    config.update(changes);
    write_json(directory_ / "model" / "config.json", config);
    return open_model(directory_ / "model");
  }

  const TemporaryDirectory directory_;
};

TEST_F(UnknownForwardPass, IsSizedAndQuantizedAndWritten) {
  const Model model = changed({{"model_type", "peculiar"}});
  EXPECT_FALSE(model.runnable);
  const Model known = open_model(architecture_model("llama").directory);
  ASSERT_EQ(model.modules.size(), known.modules.size());
  EXPECT_EQ(model.embedding, known.embedding);
  EXPECT_EQ(model.head, known.head);
  EXPECT_EQ(model.config.num_layers, 2);
  EXPECT_EQ(model.config.vocab_size, 264);

  ExportPlan plan = whole();
  for (const Module& module : model.modules) plan.schemes[module.tensor] = parse_scheme("w4g32");
  for (const char* format : {"hf", "mlx", "compressed-tensors", "strata"}) {
    if (std::string(format) == "compressed-tensors")
      for (auto& [tensor, scheme] : plan.schemes) scheme = parse_scheme("w4g32s");
    const fs::path target = directory_ / format;
    EXPECT_GT(format_for(target, format).write(model, plan, target).squared_error, 0) << format;
    const Model back = open_model(target);
    EXPECT_FALSE(back.runnable);
    EXPECT_EQ(back.modules.size(), model.modules.size()) << format;
    // What no plan names is there too: the biases and norms.
    EXPECT_EQ(back.checkpoint->read("model.layers.1.self_attn.k_proj.bias"),
              known.checkpoint->read("model.layers.1.self_attn.k_proj.bias"));
    EXPECT_EQ(back.checkpoint->read("model.norm.weight"), known.checkpoint->read("model.norm.weight"));
  }
}

TEST_F(UnknownForwardPass, IsRefusedWithTheReasonAndWhatWorks) {
  const Model model = changed({{"rope_parameters", {{"rope_type", "peculiar"}, {"rope_theta", 1e4}}}});
  for (const std::string& message : {error_of([&] { Decoder(model, {}); }), error_of([&] {
                                       export_gguf(model, whole(), directory_ / "out.gguf");
                                     })}) {
    EXPECT_NE(message.find("the rope type 'peculiar' is not supported"), std::string::npos) << message;
    EXPECT_NE(message.find("--effort quick"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace strata
