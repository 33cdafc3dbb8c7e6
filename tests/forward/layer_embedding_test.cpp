// Embeddings for every layer and keys of earlier layers, beyond what every architecture's tests say of them.

#include <gtest/gtest.h>

#include "strata/core/json.h"
#include "strata/forward/decoder.h"
#include "strata/model/model.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class LayerEmbeddings : public testing::Test {
 protected:
  LayerEmbeddings() { std::filesystem::copy(fixture_.directory, directory_ / "model"); }

  Model changed(const Json& changes) {
    Json config = read_json(fixture_.directory / "config.json");
    config.update(changes);
    write_json(directory_ / "model" / "config.json", config);
    return open_model(directory_ / "model");
  }

  const ArchitectureModel fixture_ = architecture_model("gemma4-e2b");
  const TemporaryDirectory directory_;
};

TEST_F(LayerEmbeddings, ShareTheKeysOfTheLastLayerOfTheirKind) {
  const Model model = open_model(fixture_.directory);
  std::vector<int> layers;
  for (int layer = 0; layer < 5; ++layer) layers.push_back(model.config.key_layer(layer));
  EXPECT_EQ(layers, (std::vector<int>{0, 1, 2, 1, 2}));
  EXPECT_FALSE(model.rows_of(3, Role::K).has_value());
  EXPECT_EQ(model.module(2, "mlp.up_proj").rows, 32);
  EXPECT_EQ(model.module(3, "mlp.up_proj").rows, 64);
  EXPECT_EQ(model.checkpoint->info(model.layer_embedding).shape, (std::vector<int64_t>{264, 160}));
}

// Keys and values of 16 and of 32 features twice; 5 layers of 32 features.
TEST_F(LayerEmbeddings, StandBehindTheHiddenStates) {
  const ModelConfig config = open_model(fixture_.directory).config;
  EXPECT_EQ(changing_size(config), 32 + 2 * 16 + 2 * 32);
  EXPECT_EQ(stream_size(config), changing_size(config) + 5 * 32);
  EXPECT_EQ(carried_keys(config, 3).first, 0);
  EXPECT_EQ(carried_keys(config, 4).first, 32);
  EXPECT_EQ(carried_features(config, 1).first, 96 + 32);
  const ModelConfig other = open_model(architecture_model("gemma4").directory).config;
  EXPECT_EQ(stream_size(other), other.hidden_size);
}

// Rows that change as they are read are those of another table.
TEST_F(LayerEmbeddings, ChangeAsTheirTableDoes) {
  const Model model = open_model(fixture_.directory);
  Decoder decoder(model, {});
  decoder.change_layer_embedding([](at::Tensor& rows) { rows.mul_(0.5); });
  const at::Tensor changed = decoder.forward(fixture_.ids);
  decoder.restore_all();
  decoder.replace(model.layer_embedding, decoder.weight(model.layer_embedding) * 0.5);
  EXPECT_TRUE(at::equal(changed, decoder.forward(fixture_.ids)));
  decoder.restore_all();
  EXPECT_GT(relative_difference(changed, decoder.forward(fixture_.ids)), 1e-3);
}

TEST_F(LayerEmbeddings, AreMissedByName) {
  const std::string no_table = error_of([&] { changed({{"hidden_size_per_layer_input", 16}}); });
  EXPECT_NE(no_table.find("embed_tokens_per_layer.weight has shape [264, 160], but the config asks for"),
            std::string::npos)
      << no_table;
  std::filesystem::copy(architecture_model("gemma4").directory, directory_ / "plain");
  Json config = read_json(directory_ / "plain" / "config.json");
  config.update({{"hidden_size_per_layer_input", 32}, {"vocab_size_per_layer_input", 264}});
  write_json(directory_ / "plain" / "config.json", config);
  const std::string missing = error_of([&] { open_model(directory_ / "plain"); });
  EXPECT_NE(missing.find("has no tensor model.embed_tokens_per_layer.weight, which its config asks for"),
            std::string::npos)
      << missing;
}

TEST_F(LayerEmbeddings, WithOtherRowsThanTheVocabularyAreSizedOnly) {
  const Model model = changed({{"vocab_size_per_layer_input", 200}});
  EXPECT_FALSE(model.runnable);
  EXPECT_NE(model.refusal.find("vocab_size_per_layer_input is 200 and vocab_size 264"), std::string::npos)
      << model.refusal;
}

TEST_F(LayerEmbeddings, CannotLeaveAsGgufWhereLlamaCppTakesOtherKeys) {
  ModelConfig config = open_model(fixture_.directory).config;
  EXPECT_EQ(gguf_refusal_of(config), "");
  config.sliding_layers = {true, false, false, true, false};
  EXPECT_EQ(
      gguf_refusal_of(config),
      "shared keys and values that are not those of the last two other layers, the first of which slides");
}

}  // namespace
}  // namespace strata
