#include "strata/model/gguf_model.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"
#include "strata/forward/decoder.h"
#include "strata/model/config_gguf.h"
#include "tests/forward/reference_decoder.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_gguf.h"

namespace strata {
namespace {

class GgufModel : public ::testing::Test {
 protected:
  std::filesystem::path file() const { return directory_ / "model.gguf"; }

  // Largest difference between the decoder's and the reference's logits, over the largest logit.
  double difference(const ReferenceDecoder& reference) const {
    const Model model = open_model(file());
    Decoder decoder(model, {});
    std::vector<int64_t> ids;
    Random random(3);
    for (int i = 0; i < 20; ++i) ids.push_back(static_cast<int64_t>(random.below(64)));
    const auto expected = reference.logits(ids);
    const at::Tensor found = decoder.forward(at::tensor(ids, at::kLong).unsqueeze(0))[0];
    double largest = 0, difference = 0;
    for (size_t t = 0; t < expected.size(); ++t)
      for (size_t i = 0; i < expected[t].size(); ++i) {
        largest = std::max(largest, std::abs(expected[t][i]));
        difference = std::max(difference, std::abs(expected[t][i] - found[t][i].item<double>()));
      }
    return difference / largest;
  }

  std::string error_with(const TinyModel& tiny, const std::vector<GgufKey>& keys) const {
    write_tiny_gguf(file(), tiny, random_weights(tiny), keys);
    try {
      return open_model(file()).refusal;
    } catch (const Error& error) {
      return error.what();
    }
  }

  TemporaryDirectory directory_;
};

// llama.cpp lets the layers of a model of 64 slide, whatever its file says.
TEST_F(GgufModel, SlidesInTheLargestExaone4) {
  TinyModel tiny;
  tiny.architecture = "exaone4";
  const auto config_of = [&](uint32_t layers, std::vector<GgufKey> more) {
    std::vector<GgufKey> keys = tiny_gguf_keys(tiny);
    for (GgufKey& key : keys)
      if (key.name == "exaone4.block_count") key.value = gguf_u32(layers);
    for (GgufKey& key : more) keys.push_back(std::move(key));
    write_tiny_gguf(file(), tiny, random_weights(tiny), keys);
    return read_gguf_config(GgufFile(file()));
  };
  EXPECT_EQ(config_of(64, {}).sliding_window, 4096);
  EXPECT_EQ(sliding_period(config_of(64, {})), 4);
  const GgufKey window = {"exaone4.attention.sliding_window", gguf_u32(7)};
  EXPECT_EQ(config_of(64, {window}).sliding_window, 7);
  EXPECT_EQ(config_of(30, {window}).sliding_window, 0);
}

TinyModel wider(const std::string& architecture) {
  TinyModel model;
  model.architecture = architecture;
  model.hidden = model.intermediate = 64;
  return model;
}

TEST_F(GgufModel, GivesTheLogitsOfTheWeightsItWasMadeFrom) {
  for (const char* architecture : {"llama", "mistral", "qwen2", "qwen3"}) {
    for (bool tied : {true, false}) {
      TinyModel model = wider(architecture);
      model.tied = tied;
      const TinyWeights weights = random_weights(model);
      write_tiny_gguf(file(), model, weights, tiny_gguf_keys(model));
      EXPECT_LT(difference(ReferenceDecoder(model, weights)), 1e-5) << architecture;
    }
  }
}

TEST_F(GgufModel, TurnsPermutedBiasesBack) {
  TinyModel model = wider("llama");
  model.attention_bias = model.mlp_bias = true;
  const TinyWeights weights = random_weights(model);
  write_tiny_gguf(file(), model, weights, tiny_gguf_keys(model));
  EXPECT_LT(difference(ReferenceDecoder(model, weights)), 1e-5);
}

TEST_F(GgufModel, DividesFrequenciesByRopeFreqs) {
  const TinyModel model = wider("llama");
  TinyWeights weights = random_weights(model);
  ReferenceDecoder reference(model, weights);
  const std::vector<float> divisors = {1, 2.5, 7, 8};
  TinyWeights stored = weights;
  stored.names.push_back("rope_freqs.weight");
  stored.shapes["rope_freqs.weight"] = {4};
  stored.values["rope_freqs.weight"] = divisors;
  write_tiny_gguf(file(), model, stored, tiny_gguf_keys(model));
  EXPECT_GT(difference(reference), 1e-3);
  for (size_t i = 0; i < 4; ++i) reference.frequencies[i] /= divisors[i];
  EXPECT_LT(difference(reference), 1e-5);

  std::vector<GgufKey> keys = tiny_gguf_keys(model);
  keys.push_back({"llama.rope.scaling.type", gguf_string("linear")});
  keys.push_back({"llama.rope.scaling.factor", gguf_f32(4)});
  write_tiny_gguf(file(), model, stored, keys);
  for (double& frequency : reference.frequencies) frequency /= 4;
  EXPECT_LT(difference(reference), 1e-5);
}

TEST_F(GgufModel, ScalesFrequenciesLinearly) {
  const TinyModel model = wider("qwen2");
  const TinyWeights weights = random_weights(model);
  std::vector<GgufKey> keys = tiny_gguf_keys(model);
  keys.push_back({"qwen2.rope.scaling.type", gguf_string("linear")});
  keys.push_back({"qwen2.rope.scaling.factor", gguf_f32(4)});
  write_tiny_gguf(file(), model, weights, keys);
  ReferenceDecoder reference(model, weights);
  for (double& frequency : reference.frequencies) frequency /= 4;
  EXPECT_LT(difference(reference), 1e-5);
}

TEST_F(GgufModel, DecodesBlocksRowByRow) {
  const TinyModel model = wider("llama");
  const TinyWeights weights = random_weights(model);
  write_tiny_gguf(file(), model, weights, tiny_gguf_keys(model), GgufType::Q8_0);
  const Model opened = open_model(file());
  for (const Module& module : opened.modules) {
    const TensorInfo& info = opened.checkpoint->info(module.tensor);
    EXPECT_EQ(info.type, "Q8_0");
    std::vector<float> rows(static_cast<size_t>(3 * module.cols));
    opened.checkpoint->read_rows(info, 2, 3, rows.data());
    // Encoding and decoding a row does not depend on its neighbours.
    const float* original = weights.values.at(module.tensor).data() + 2 * module.cols;
    std::vector<std::byte> blocks(static_cast<size_t>(3 * row_bytes(GgufType::Q8_0, module.cols)));
    std::vector<float> expected(rows.size());
    encode_gguf(GgufType::Q8_0, original, 3, module.cols, nullptr, blocks.data());
    decode_gguf(GgufType::Q8_0, blocks.data(), 3 * module.cols, expected.data());
    EXPECT_EQ(rows, expected) << module.tensor;
  }
  const TensorInfo& info = opened.checkpoint->info(opened.embedding);
  std::vector<float> row(64);
  EXPECT_THROW(opened.checkpoint->read_rows(info, 64, 1, row.data()), Error);
  EXPECT_THROW(opened.checkpoint->read_rows(info, -1, 1, row.data()), Error);
}

TEST_F(GgufModel, RefusesNotANumber) {
  const TinyModel model = wider("llama");
  TinyWeights weights = random_weights(model);
  weights.values["model.layers.1.input_layernorm.weight"][5] = NAN;
  write_tiny_gguf(file(), model, weights, tiny_gguf_keys(model));
  const Model opened = open_model(file());
  try {
    opened.checkpoint->read("model.layers.1.input_layernorm.weight");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("blk.1.attn_norm.weight"), std::string::npos) << error.what();
  }
}

TEST_F(GgufModel, NamesWhatItCannotTake) {
  const TinyModel model = wider("llama");
  const auto with = [&](const std::string& name, GgufValue value) {
    std::vector<GgufKey> keys = tiny_gguf_keys(model);
    const auto same = [&](const GgufKey& key) { return key.name == name; };
    keys.erase(std::remove_if(keys.begin(), keys.end(), same), keys.end());
    keys.push_back({name, std::move(value)});
    return error_with(model, keys);
  };
  const auto expect = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  EXPECT_EQ(error_with(model, tiny_gguf_keys(model)), "");
  expect(with("general.architecture", gguf_string("qwen2")), "no key qwen2.embedding_length");
  expect(with("llama.embedding_length", gguf_u32(0)), "hidden_size is 0");
  expect(with("llama.attention.head_count", gguf_u32(0)), "head_count is 0");
  expect(with("llama.attention.head_count", gguf_u32(4000000000u)), "num_attention_heads");
  expect(with("llama.attention.head_count_kv", gguf_i32s({2, 1})), "not one integer");
  expect(with("llama.attention.head_count_kv", gguf_u32(0)), "num_key_value_heads is 0");
  expect(with("llama.attention.value_length", gguf_u32(16)), "only equal sizes");
  expect(with("llama.rope.dimension_count", gguf_u32(4)), "4 of 8 features");
  expect(with("llama.rope.scaling.type", gguf_string("peculiar")), "'peculiar' is not supported");
  expect(with("llama.rope.freq_base", gguf_string("x")), "not a number");
  expect(with("llama.block_count", gguf_u32(3)), "model.layers.2.input_layernorm.weight");
  expect(with("split.count", gguf_u32(2)), "must end in -00001-of-00002.gguf");
  expect(with("llama.feed_forward_length", gguf_u32(128)), "gate_proj.weight has shape [64, 64]");
}

// What cannot be run can be quantized all the same.
TEST_F(GgufModel, SizesWhatItCannotRun) {
  const TinyModel model = wider("llama");
  std::vector<GgufKey> keys = tiny_gguf_keys(model);
  keys.push_back({"llama.rope.scaling.type", gguf_string("peculiar")});
  write_tiny_gguf(file(), model, random_weights(model), keys);
  const Model opened = open_model(file());
  EXPECT_FALSE(opened.runnable);
  ASSERT_FALSE(opened.modules.empty());
  EXPECT_EQ(opened.modules.front().tensor, "blk.0.attn_q.weight");
  EXPECT_EQ(opened.modules.front().rows, opened.checkpoint->info("blk.0.attn_q.weight").rows());
}

}  // namespace
}  // namespace strata
