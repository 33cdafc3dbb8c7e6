#include "strata/model/model.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

std::string opening_error(const std::filesystem::path& path) {
  try {
    open_model(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(OpenModel, ListsTheModulesOfTheBundledModel) {
  const Model model = open_model(STRATA_SOURCE_DIR "/models/tiny-llama");
  ASSERT_EQ(model.modules.size(), 16u * 7);
  EXPECT_EQ(model.head, model.embedding);
  const Module& k = model.module(15, Role::K);
  EXPECT_EQ(k.layer, 15);
  EXPECT_EQ(k.name, "self_attn.k_proj");
  EXPECT_EQ(k.tensor, "model.layers.15.self_attn.k_proj.weight");
  EXPECT_EQ(k.rows, 128);
  EXPECT_EQ(k.cols, 256);
  EXPECT_EQ(model.module(3, Role::Down).cols, 768);
  EXPECT_EQ(name_of(k.role), "k");
}

TEST(OpenModel, TakesADirectoryOrTheFileInIt) {
  for (const char* architecture : {"llama", "mistral", "qwen2", "qwen3"}) {
    const TemporaryDirectory directory;
    TinyModel tiny;
    tiny.architecture = architecture;
    tiny.tied = false;
    tiny.type = DType::BF16;
    write_tiny_model(directory.path(), tiny);
    EXPECT_EQ(open_model(directory.path()).head, "lm_head.weight");
    EXPECT_EQ(open_model(directory / "model.safetensors").modules.size(), 14u);
  }
}

TEST(OpenModel, TakesTheHeadForAnEmbeddingThatIsTiedToIt) {
  const TemporaryDirectory directory;
  TinyModel tiny;
  tiny.tied = true;
  TinyWeights weights = write_tiny_model(directory.path(), tiny);
  const std::vector<float> embedding =
      open_model(directory.path()).checkpoint->read("model.embed_tokens.weight");
  for (std::string& name : weights.names)
    if (name == "model.embed_tokens.weight") {
      weights.values["lm_head.weight"] = weights.values[name];
      weights.shapes["lm_head.weight"] = weights.shapes[name];
      name = "lm_head.weight";
    }
  write_safetensors(directory / "model.safetensors", weights, tiny.type);
  const Model model = open_model(directory.path());
  EXPECT_EQ(model.head, "model.embed_tokens.weight");
  EXPECT_EQ(model.checkpoint->read(model.head), embedding);
  EXPECT_FALSE(model.checkpoint->contains("lm_head.weight"));
  const TensorInfo& info = model.checkpoint->info(model.head);
  std::vector<std::byte> bytes(info.bytes);
  model.checkpoint->read_bytes(info, 0, info.bytes, bytes.data());
  std::vector<float> decoded(embedding.size());
  to_float(tiny.type, bytes.data(), decoded.data(), static_cast<int64_t>(decoded.size()));
  EXPECT_EQ(decoded, embedding);
}

// Files of other programs are named by a hash of their content, or linked.
TEST(OpenModel, TakesAGgufOfAnyName) {
  const TemporaryDirectory directory;
  const std::filesystem::path source = STRATA_SOURCE_DIR "/models/tiny-moe.gguf";
  for (const char* name : {"sha256-6c5e", "model.GGUF"}) {
    std::filesystem::create_symlink(source, directory / name);
    EXPECT_EQ(open_model(directory / name).modules.size(), open_model(source).modules.size()) << name;
  }
  write_text(directory / "short.GGUF", "GG");
  EXPECT_NE(opening_error(directory / "short.GGUF").find("short.GGUF"), std::string::npos);
}

TEST(OpenModel, LeavesOutTokensThatWereAddedBeyondTheEmbedding) {
  const TemporaryDirectory directory;
  std::filesystem::copy(STRATA_SOURCE_DIR "/tests/data/architectures/llama", directory.path());
  const auto with = [&](const auto& change) {
    LargeJson tokenizer = read_large_json(STRATA_SOURCE_DIR "/tests/data/architectures/llama/tokenizer.json");
    change(tokenizer);
    write_text(directory / "tokenizer.json", tokenizer.dump());
  };
  with([](LargeJson& tokenizer) {
    tokenizer["added_tokens"].push_back({{"id", 264}, {"content", "[PAD]"}, {"special", true}});
  });
  write_text(directory / "tokenizer_config.json", R"({"pad_token":"[PAD]"})");
  const Model model = open_model(directory.path());
  EXPECT_EQ(model.vocabulary().tokens.size(), 264u);
  EXPECT_EQ(model.vocabulary().padding, std::nullopt);
  EXPECT_FALSE(make_tokenizer(model.vocabulary())->encode("in [PAD]").empty());

  with([](LargeJson& tokenizer) { tokenizer["model"]["vocab"]["far"] = 264; });
  EXPECT_NE(error_of([&] { model.vocabulary(); }).find("belongs to another model"), std::string::npos);
}

TEST(OpenModel, ComparesTensorsWithTheConfig) {
  const TemporaryDirectory directory;
  const auto error_with = [&](const char* key, const Json& value) {
    TinyModel tiny;
    tiny.config[key] = value;
    write_tiny_model(directory.path(), tiny);
    return opening_error(directory.path());
  };
  EXPECT_EQ(error_with("vocab_size", 64), "");
  EXPECT_NE(error_with("vocab_size", 65).find("model.embed_tokens.weight has shape [64, 32]"),
            std::string::npos);
  EXPECT_NE(error_with("num_hidden_layers", 3).find("model.layers.2.input_layernorm.weight"),
            std::string::npos);
  EXPECT_NE(error_with("tie_word_embeddings", false).find("no tensor lm_head.weight"), std::string::npos);
  EXPECT_NE(error_with("attention_bias", true).find("q_proj.bias"), std::string::npos);
  EXPECT_NE(error_with("num_key_value_heads", 4).find("[16, 32], but the config asks for [32, 32]"),
            std::string::npos);
  EXPECT_NE(error_with("model_type", "qwen3").find("q_norm"), std::string::npos);
}

TEST(OpenModel, SaysWhatIsMissing) {
  const TemporaryDirectory directory;
  EXPECT_NE(opening_error(directory / "nothing").find("there is no model"), std::string::npos);
  EXPECT_NE(opening_error(directory.path()).find("config.json"), std::string::npos);
  write_tiny_model(directory.path(), TinyModel{});
  std::filesystem::remove(directory / "model.safetensors");
  EXPECT_NE(opening_error(directory.path()), "");
}

}  // namespace
}  // namespace strata
