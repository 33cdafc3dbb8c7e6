#include "strata/forward/decoder.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <map>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/forward/attention.h"
#include "strata/forward/load_tensor.h"
#include "tests/forward/reference_decoder.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

std::vector<int64_t> some_ids(int64_t count, int64_t vocab, uint64_t seed = 7) {
  Random random(seed);
  std::vector<int64_t> ids(static_cast<size_t>(count));
  for (int64_t& id : ids) id = static_cast<int64_t>(random.below(static_cast<uint64_t>(vocab)));
  return ids;
}

at::Tensor as_batch(const std::vector<int64_t>& ids) {
  return at::tensor(ids, at::kLong).unsqueeze(0);
}

// Largest difference over the largest magnitude.
double logits_difference(const at::Tensor& logits, const std::vector<std::vector<double>>& expected) {
  double largest = 0, difference = 0;
  const at::Tensor found = logits.to(at::kDouble).contiguous();
  EXPECT_EQ(found.size(0), static_cast<int64_t>(expected.size()));
  EXPECT_EQ(found.size(1), static_cast<int64_t>(expected[0].size()));
  for (size_t t = 0; t < expected.size(); ++t)
    for (size_t i = 0; i < expected[t].size(); ++i) {
      largest = std::max(largest, std::abs(expected[t][i]));
      difference = std::max(difference, std::abs(expected[t][i] - found[t][i].item<double>()));
    }
  return difference / largest;
}

// A tiny model on disk, the decoder that reads it, and the reference made from the same weights.
struct Pair {
  explicit Pair(const TinyModel& tiny, DecoderOptions options = {})
      : weights(write_tiny_model(directory.path(), tiny)),
        model(open_model(directory.path())),
        decoder(model, options),
        reference(tiny, weights) {}

  double difference(int64_t length = 24) {
    const std::vector<int64_t> ids = some_ids(length, model.config.vocab_size);
    return logits_difference(decoder.forward(as_batch(ids))[0], reference.logits(ids));
  }

  TemporaryDirectory directory;
  TinyWeights weights;
  Model model;
  Decoder decoder;
  ReferenceDecoder reference;
};

TinyModel tiny(const std::string& architecture) {
  TinyModel model;
  model.architecture = architecture;
  return model;
}

constexpr double kTolerance = 1e-5;

TEST(Decoder, MatchesTheReferenceForLlama) {
  EXPECT_LT(Pair(tiny("llama")).difference(), kTolerance);
}

TEST(Decoder, MatchesTheReferenceForLlamaWithBiasesAndItsOwnHead) {
  TinyModel model = tiny("llama");
  model.attention_bias = model.mlp_bias = true;
  model.tied = false;
  EXPECT_LT(Pair(model).difference(), kTolerance);
}

TEST(Decoder, MatchesTheReferenceForOneKeyHeadAndForAsManyAsQueries) {
  for (int64_t kv_heads : {1, 4}) {
    TinyModel model = tiny("llama");
    model.kv_heads = kv_heads;
    model.head_dim = 6;
    EXPECT_LT(Pair(model).difference(), kTolerance);
  }
}

TEST(Decoder, MatchesTheReferenceForQwen2) {
  EXPECT_LT(Pair(tiny("qwen2")).difference(), kTolerance);
}

TEST(Decoder, MatchesTheReferenceForQwen3) {
  TinyModel model = tiny("qwen3");
  model.head_dim = 16;
  EXPECT_LT(Pair(model).difference(), kTolerance);
}

TEST(Decoder, MatchesTheReferenceForMistralWithAWindow) {
  TinyModel model = tiny("mistral");
  model.config["sliding_window"] = 5;
  Pair pair(model);
  EXPECT_GT(pair.difference(), 1e-3);  // the reference still sees everything
  pair.reference.window = 5;
  EXPECT_LT(pair.difference(), kTolerance);
}

TEST(Decoder, MatchesTheReferenceForQwenSlidingInItsLaterLayers) {
  TinyModel model = tiny("qwen2");
  model.config = {{"sliding_window", 5}, {"use_sliding_window", true}, {"max_window_layers", 1}};
  Pair pair(model);
  pair.reference.window = 5;
  EXPECT_GT(pair.difference(), 1e-3);
  pair.reference.first_sliding_layer = 1;
  EXPECT_LT(pair.difference(), kTolerance);
}

TEST(Decoder, MatchesTheReferenceWithLinearScaling) {
  TinyModel model = tiny("llama");
  model.config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  Pair pair(model);
  EXPECT_GT(pair.difference(), 1e-3);
  for (double& frequency : pair.reference.frequencies) frequency /= 4;
  EXPECT_LT(pair.difference(), kTolerance);
}

TEST(Decoder, MatchesTheReferenceWithLlama3Scaling) {
  TinyModel model = tiny("llama");
  model.config["rope_parameters"] = {{"rope_type", "llama3"},   {"rope_theta", 10000.0},
                                     {"factor", 8.0},           {"low_freq_factor", 1.0},
                                     {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 100}};
  Pair pair(model);
  EXPECT_GT(pair.difference(), 1e-3);
  // Wave lengths 6.28, 62.8, 628, 6283: below 100 / 4, between 25 and 100, above 100, above 100.
  const double smooth = (100 / (2 * M_PI * 10) - 1.0) / 3.0;
  std::vector<double>& frequency = pair.reference.frequencies;
  frequency = {frequency[0], frequency[1] * ((1 - smooth) / 8 + smooth), frequency[2] / 8, frequency[3] / 8};
  EXPECT_LT(pair.difference(), kTolerance);
}

TEST(Decoder, GivesTheSameWhenWeightsAreNotKept) {
  for (bool tied : {true, false}) {
    TinyModel model = tiny("qwen2");
    model.tied = tied;
    DecoderOptions options;
    options.resident = false;
    EXPECT_LT(Pair(model, options).difference(), kTolerance);
  }
}

TEST(Decoder, ComputesInBfloat16) {
  DecoderOptions options;
  options.dtype = at::kBFloat16;
  Pair pair(tiny("llama"), options);
  const double difference = pair.difference();
  EXPECT_LT(difference, 0.05);
  EXPECT_GT(difference, 1e-4);
  options.dtype = at::kDouble;
  EXPECT_THROW(Decoder(pair.model, options), UsageError);
}

// The last bits too are the same for every number of threads, for sequences that run together or alone, and
// whether or not somebody watches.
TEST(Decoder, GivesTheSameBitsHoweverABatchRuns) {
  TinyModel model = tiny("llama");
  model.hidden = 96;
  model.intermediate = 1600;  // more than one product a matrix
  model.head_dim = 24;
  Pair pair(model);
  std::vector<at::Tensor> rows;
  for (uint64_t seed = 1; seed <= 5; ++seed) rows.push_back(at::tensor(some_ids(41, 64, seed), at::kLong));
  const at::Tensor ids = at::stack(rows);
  set_thread_count(1);
  const at::Tensor expected = pair.decoder.forward(ids);
  EXPECT_LT(logits_difference(expected[0], pair.reference.logits(some_ids(41, 64, 1))), kTolerance);
  for (const int threads : {1, 2, 3, 7}) {
    set_thread_count(threads);
    Decoder decoder(pair.model, {});
    EXPECT_TRUE(at::equal(decoder.forward(ids), expected)) << threads;
    EXPECT_TRUE(at::equal(decoder.forward(ids.narrow(0, 4, 1)), expected.narrow(0, 4, 1))) << threads;
    std::map<std::string, at::Tensor> seen;
    decoder.observe([&](int layer, std::string_view what, const at::Tensor& value) {
      if (layer == 1) seen[std::string(what)] = value;
    });
    EXPECT_TRUE(at::equal(decoder.forward(ids), expected)) << threads;
    EXPECT_EQ(seen.at("mlp.down_proj").sizes(), (std::vector<int64_t>{5, 41, 1600}));
  }
  set_thread_count(0);
}

TEST(Decoder, RunsLayersOneByOne) {
  Pair pair(tiny("llama"));
  const at::Tensor ids = as_batch(some_ids(16, 64));
  at::Tensor hidden = pair.decoder.layer(1, pair.decoder.layer(0, pair.decoder.embed(ids)));
  EXPECT_TRUE(at::equal(pair.decoder.logits(hidden), pair.decoder.forward(ids)));
  EXPECT_THROW(pair.decoder.layer(2, hidden), Error);
  EXPECT_THROW(pair.decoder.layer(-1, hidden), Error);
}

TEST(Decoder, ReplacesAndRestoresWeights) {
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  for (bool resident : {true, false}) {
    DecoderOptions options;
    options.resident = resident;
    Pair pair(tiny("llama"), options);
    EXPECT_LT(pair.difference(), kTolerance);
    const at::Tensor original = load_tensor(*pair.model.checkpoint, name, at::kCPU, at::kFloat);
    pair.decoder.replace(name, original * 1.25);
    EXPECT_GT(pair.difference(), 1e-3);
    for (float& value : pair.weights.values[name]) value *= 1.25f;
    EXPECT_LT(pair.difference(), kTolerance);
    pair.decoder.restore(name);
    EXPECT_GT(pair.difference(), 1e-3);
    pair.decoder.replace(name, original * 1.25);
    pair.decoder.restore_all();
    EXPECT_GT(pair.difference(), 1e-3);
    EXPECT_THROW(pair.decoder.replace(name, original.t()), Error);
    EXPECT_THROW(pair.decoder.replace("model.layers.1.mlp.none.weight", original), Error);
  }
}

TEST(Decoder, ReplacesTheEmbeddingForBothEndsWhenTied) {
  DecoderOptions options;
  options.resident = false;
  Pair pair(tiny("llama"), options);
  std::vector<float>& values = pair.weights.values["model.embed_tokens.weight"];
  for (size_t i = 0; i < values.size(); i += 3) values[i] = -values[i];
  EXPECT_GT(pair.difference(), 1e-3);
  pair.decoder.replace(pair.model.embedding, at::tensor(values).view({64, 32}));
  EXPECT_LT(pair.difference(), kTolerance);
}

TEST(Decoder, ShowsTheInputOfEveryModule) {
  TinyModel options = tiny("llama");
  options.mlp_bias = options.attention_bias = true;
  Pair pair(options);
  std::map<std::string, at::Tensor> seen;
  pair.decoder.observe([&](int layer, std::string_view what, const at::Tensor& value) {
    if (layer == 1) seen[std::string(what)] = value.clone();
  });
  const at::Tensor hidden = pair.decoder.layer(0, pair.decoder.embed(as_batch(some_ids(10, 64))));
  const at::Tensor output = pair.decoder.layer(1, hidden);
  ASSERT_EQ(seen.size(), 8u);
  EXPECT_TRUE(at::equal(seen["layer"], output));
  for (const Module& module : pair.model.modules)
    EXPECT_EQ(seen[module.name].size(2), module.cols) << module.name;
  const auto load = [&](const char* name) {
    return load_tensor(*pair.model.checkpoint, pair.model.layer_tensor(1, name), at::kCPU, at::kFloat);
  };
  // What the observer saw explains the output: hidden + o(x) + down(y).
  const at::Tensor attended =
      at::linear(seen["self_attn.o_proj"], load("self_attn.o_proj.weight"), load("self_attn.o_proj.bias"));
  const at::Tensor mlp =
      at::linear(seen["mlp.down_proj"], load("mlp.down_proj.weight"), load("mlp.down_proj.bias"));
  EXPECT_TRUE(at::allclose(hidden + attended + mlp, output, 1e-4, 1e-4));
}

TEST(Decoder, RefusesTokensOutsideTheVocabulary) {
  Pair pair(tiny("llama"));
  EXPECT_THROW(pair.decoder.embed(as_batch({0, 64})), Error);
  EXPECT_THROW(pair.decoder.embed(as_batch({-1, 3})), Error);
}

// The whole score matrix at once.
at::Tensor attention_by_definition(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   int64_t window, const at::Tensor& sinks) {
  const int64_t length = q.size(2);
  const at::Tensor keys = k.repeat_interleave(2, 1), values = v.repeat_interleave(2, 1);
  const at::Tensor distance = at::arange(length).unsqueeze(1) - at::arange(length).unsqueeze(0);
  at::Tensor hidden = distance.lt(0);
  if (window > 0) hidden = hidden.logical_or(distance.ge(window));
  const at::Tensor scores = (q.matmul(keys.transpose(2, 3)) / std::sqrt(8.0)).masked_fill(hidden, -1e30);
  const at::Tensor all =
      sinks.defined() ? at::cat({scores, sinks.view({1, -1, 1, 1}).expand({q.size(0), -1, length, 1})}, -1)
                      : scores;
  return at::softmax(all, -1)
      .narrow(-1, 0, length)
      .matmul(values)
      .transpose(1, 2)
      .reshape({q.size(0), length, q.size(1) * v.size(3)});
}

// Sequences longer than a block of queries, with and without a window, sinks and values of another size;
// gradients against those in double precision.
TEST(Attention, MatchesTheWholeScoreMatrixAndItsGradients) {
  at::manual_seed(3);
  const int64_t length = 300;
  const at::Tensor q = at::randn({2, 4, length, 8}), k = at::randn({2, 2, length, 8});
  const at::AutoGradMode with_gradients(true);
  for (int64_t window : {0, 1, 100, 129, 1000})
    for (const bool has_sinks : {false, true}) {
      const int64_t value_dim = has_sinks ? 5 : 8;
      const at::Tensor v = at::randn({2, 2, length, value_dim}),
                       by_output = at::randn({2, length, 4 * value_dim}),
                       sinks = has_sinks ? 2 * at::randn({4}) : at::Tensor();
      std::vector<at::Tensor> single, twice;
      for (const at::Tensor& values : {q, k, v}) {
        single.push_back(values.clone().set_requires_grad(true));
        twice.push_back(values.to(at::kDouble).set_requires_grad(true));
      }
      const at::Tensor found = causal_attention(single[0], single[1], single[2], {window, 0, 0}, sinks);
      const at::Tensor expected = attention_by_definition(twice[0], twice[1], twice[2], window,
                                                          has_sinks ? sinks.to(at::kDouble) : at::Tensor());
      EXPECT_TRUE(at::allclose(found.to(at::kDouble), expected, 1e-4, 1e-5)) << window;
      found.backward(by_output);
      expected.backward(by_output.to(at::kDouble));
      for (size_t i = 0; i < single.size(); ++i)
        EXPECT_TRUE(at::allclose(single[i].grad().to(at::kDouble), twice[i].grad(), 1e-4, 1e-4))
            << window << ", " << i;
    }
}

TEST(ParseDevice, KnowsCpuAndRefusesOthers) {
  EXPECT_TRUE(parse_device("cpu").is_cpu());
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:999", "cuda:99999999999"})
    EXPECT_THROW(parse_device(name), UsageError) << name;
}

}  // namespace
}  // namespace strata
