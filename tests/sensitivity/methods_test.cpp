#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "strata/allocation/allocator.h"
#include "strata/core/error.h"
#include "strata/gguf/file.h"
#include "strata/sensitivity/costs.h"
#include "strata/sensitivity/infoq.h"
#include "strata/sensitivity/method.h"
#include "strata/sensitivity/prior.h"
#include "tests/sensitivity/brute_force.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

class Methods : public testing::Test {
 protected:
  void SetUp() override {
    TinyModel tiny;
    tiny.layers = 3;
    weights_ = write_tiny_model(directory_ / "model", tiny);
    model_ = open_model(directory_ / "model");
  }

  const std::vector<float>& weights(const Module& module) const { return weights_.values.at(module.tensor); }

  // One value a module by `f`, averaged over the modules of each layer.
  template <class F>
  std::vector<double> layer_means(const F& f) const {
    std::vector<double> means(3);
    for (const Module& module : model_.modules) means[module.layer] += f(weights(module)) / 7;
    return means;
  }

  void expect_layers(const Scores& scores, const std::vector<double>& expected) const {
    ASSERT_EQ(scores.scores.size(), expected.size());
    EXPECT_FALSE(scores.per_module);
    for (size_t l = 0; l < expected.size(); ++l) {
      EXPECT_EQ(scores.scores[l].layer, static_cast<int>(l));
      EXPECT_EQ(scores.scores[l].params, 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32);
      EXPECT_NEAR(scores.scores[l].score, expected[l], 1e-6 * std::abs(expected[l])) << l;
    }
  }

  TemporaryDirectory directory_;
  TinyWeights weights_;
  Model model_;
};

TEST_F(Methods, ZdIsTheShareBeyondOneDeviation) {
  expect_layers(score(model_, "zd", {}), layer_means([](const std::vector<float>& w) {
                  double mean = 0, square = 0, outside = 0;
                  for (float x : w) mean += x / static_cast<double>(w.size());
                  for (float x : w) square += (x - mean) * (x - mean) / static_cast<double>(w.size());
                  for (float x : w) outside += std::abs((x - mean) / std::sqrt(square)) > 1;
                  return outside / static_cast<double>(w.size());
                }));
}

TEST_F(Methods, EwqIsTheEntropyOfTheSoftmax) {
  expect_layers(score(model_, "ewq", {}), layer_means([](const std::vector<float>& w) {
                  double sum = 0, entropy = 0;
                  for (float x : w) sum += std::exp(static_cast<double>(x));
                  for (float x : w)
                    entropy -= std::exp(x) / sum * std::log(std::exp(static_cast<double>(x)) / sum);
                  return entropy;
                }));
}

TEST_F(Methods, EwqOverflowsForNoWeights) {
  TinyModel huge;
  huge.layers = 1;
  TinyWeights w = random_weights(huge);
  for (auto& [name, values] : w.values)
    for (float& value : values) value *= 1e4f;
  std::filesystem::create_directories(directory_ / "huge");
  write_safetensors(directory_ / "huge" / "model.safetensors", w, DType::F32);
  write_json(directory_ / "huge" / "config.json", tiny_config(huge));
  const Scores scores = score(open_model(directory_ / "huge"), "ewq", {});
  EXPECT_GE(scores.scores[0].score, 0);
  EXPECT_LT(scores.scores[0].score, 1);  // nearly all mass on the largest weight
}

TEST_F(Methods, KurtosisIsPearsonsOfEveryMatrix) {
  const Scores scores = score(model_, "kurtosis", {});
  EXPECT_TRUE(scores.per_module);
  ASSERT_EQ(scores.scores.size(), model_.modules.size());
  for (size_t i = 0; i < scores.scores.size(); ++i) {
    const Module& module = model_.modules[i];
    std::vector<float> w = weights(module);
    const double expected = brute_force::excess_kurtosis(at::from_blob(w.data(), {module.params()})) + 3;
    EXPECT_EQ(scores.scores[i].module, module.name);
    EXPECT_NEAR(scores.scores[i].score, expected, 1e-9 * expected);
  }
}

TEST_F(Methods, WeightErrorIsTheSquaredErrorAtTheLowestWidth) {
  SensitivityOptions options;
  options.schemes = parse_schemes("w4g32,w2g32,w3g32");
  const Scores scores = score(model_, "weight-error", options);
  EXPECT_TRUE(scores.per_module);
  EXPECT_EQ(scores.details["scheme"], "w2g32");
  ASSERT_EQ(scores.costs.size(), 3 * model_.modules.size());
  QuantizerOptions rtn;
  rtn.name = "rtn";
  for (size_t i = 0; i < model_.modules.size(); ++i) {
    const Module& module = model_.modules[i];
    const std::vector<float>& original = weights(module);
    std::vector<float> w = original;
    fake_quantize({w.data(), module.rows, module.cols}, parse_scheme("w2g32"), rtn);
    double error = 0;
    for (size_t j = 0; j < w.size(); ++j) error += std::pow(static_cast<double>(w[j]) - original[j], 2);
    EXPECT_NEAR(scores.scores[i].score, error, 1e-5 * error);
    EXPECT_NEAR(scores.costs[3 * i + 1].cost, error, 1e-5 * error);  // absolute, not relative
  }
  EXPECT_EQ(score(model_, "weight-error", {}).details["scheme"], "w2g64");
}

TEST_F(Methods, FirstLastFallsTowardsTheMiddle) {
  expect_layers(score(model_, "first-last", {}), {1, 1.0 / 3, 1});
}

TEST_F(Methods, UniformTellsNoLayersApart) {
  expect_layers(score(model_, "uniform", {}), {1, 1, 1});
}

TEST_F(Methods, PriorWeighsRelativeErrorsByRoleAndPlace) {
  SensitivityOptions options;
  options.schemes = parse_schemes("w2g32,w4g32");
  const Scores scores = score(model_, "prior", options);
  std::map<std::string, std::map<std::string, double>> costs;
  for (const Cost& cost : scores.costs) costs[cost.tensor][cost.scheme] = cost.cost;
  for (const Module& module : model_.modules) {
    const std::vector<float> weights = model_.checkpoint->read(module.tensor);
    for (const char* scheme : {"w2g32", "w4g32"}) {
      std::vector<float> rounded = weights;
      fake_quantize({rounded.data(), module.rows, module.cols}, parse_scheme(scheme),
                    SensitivityOptions::round_to_nearest());
      double error = 0, norm = 0;
      for (size_t i = 0; i < weights.size(); ++i) {
        error += std::pow(static_cast<double>(weights[i]) - rounded[i], 2);
        norm += std::pow(static_cast<double>(weights[i]), 2);
      }
      const double expected = prior_weight(module, 3) * error / norm;
      EXPECT_NEAR(costs.at(module.tensor).at(scheme), expected, 1e-6 * expected) << module.tensor;
    }
  }
  // What llama.cpp's mixes give more bits to, beside what they do not.
  EXPECT_GT(prior_weight(model_.module(1, Role::V), 3), prior_weight(model_.module(1, Role::K), 3));
  EXPECT_GT(prior_weight(model_.module(2, Role::Down), 3), prior_weight(model_.module(1, Role::Down), 3));
}

TEST_F(Methods, PriorKnowsFusedMatricesAndNamesWithoutRoles) {
  const auto of_role = [](Role role) {
    Module module;
    module.layer = 1;
    module.role = role;
    return prior_weight(module, 3);
  };
  Module fused;
  fused.layer = 1;
  fused.parts = {{Role::Q, 64, 0}, {Role::K, 32, 0}, {Role::V, 32, 0}};
  EXPECT_DOUBLE_EQ(prior_weight(fused, 3), of_role(Role::Q) + of_role(Role::K) + of_role(Role::V));
  Module named;
  named.layer = 1;
  named.name = "ffn_down_exps";
  EXPECT_EQ(prior_weight(named, 3), of_role(Role::Down));
  named.name = "attn_output";
  EXPECT_EQ(prior_weight(named, 3), of_role(Role::O));
  named.name = "self_attn.k_proj";
  EXPECT_EQ(prior_weight(named, 3), of_role(Role::K));
  named.name = "block_sparse_moe.experts.7.w2";
  EXPECT_EQ(prior_weight(named, 3), of_role(Role::Down));
}

// Two experts of a layer share the weight of one matrix.
TEST_F(Methods, PriorGivesExpertsAPartOfTheirRole) {
  Model model = model_;
  model.modules.clear();
  for (const char* name : {"mlp.experts.0.w1", "mlp.experts.1.w1", "mlp.experts.0.w3", "mlp.experts.1.w3"}) {
    Module module;
    module.layer = 1;
    module.name = name;
    module.tensor = std::string("model.layers.1.") + name + ".weight";
    module.rows = module.cols = 8;
    model.modules.push_back(module);
  }
  const Scores scores = score(model, "prior", {});
  ASSERT_EQ(scores.scores.size(), 4u);
  for (size_t i = 0; i < 4; ++i)  // half the weight, over a quarter of the layer
    EXPECT_DOUBLE_EQ(scores.scores[i].score, prior_weight(model.modules[i], 3) / 2 * 4);
}

TEST_F(Methods, RandomFollowsItsSeed) {
  SensitivityOptions one, two;
  one.seed = 1;
  two.seed = 2;
  const Scores a = score(model_, "random", one), again = score(model_, "random", one),
               b = score(model_, "random", two);
  for (size_t l = 0; l < 3; ++l) {
    EXPECT_EQ(a.scores[l].score, again.scores[l].score);
    EXPECT_NE(a.scores[l].score, b.scores[l].score);
    EXPECT_GT(a.scores[l].score, 0);
  }
  EXPECT_EQ(a.details["seed"], 1);
}

TEST_F(Methods, AnUnknownNameListsTheKnownOnes) {
  try {
    score(model_, "nsd", {});
    FAIL();
  } catch (const UsageError& error) {
    for (const char* word : {"\"nsd\"", "nsds", "kurtosis", "weight-error", "first-last"})
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

TEST_F(Methods, EveryScoresFileCanBeWrittenAndAllocatedFrom) {
  SensitivityOptions options;
  options.schemes = parse_schemes("w2g32,w4g32");
  Evidence evidence;
  evidence.calibration =
      std::make_shared<const Calibration>(make_calibration(at::arange(48, at::kLong).view({4, 12}), "test"));
  options.methods.get<InfoqOptions>().buckets = 4;  // of few tokens
  for (const SensitivityMethod& method : sensitivity_methods()) {
    const Scores scores = score(model_, method.name, options, evidence);
    EXPECT_EQ(scores.method, method.name);
    EXPECT_EQ(modules_of(scores).size(), model_.modules.size());
    const Scores again = scores_from_json(to_json(scores), method.name);
    EXPECT_EQ(again.costs.size(), 2 * model_.modules.size());
    for (size_t i = 0; i < again.costs.size(); i += 2) {
      // The terms of llm-mq's product cancel by chance, and infoq estimates roughly from so few tokens.
      if (method.name != "llm-mq" && method.name != "infoq") {
        EXPECT_GT(again.costs[i].cost, again.costs[i + 1].cost) << "two bits cost more than four";
      }
      EXPECT_GT(again.costs[i + 1].cost, 0);
    }
  }
}

TEST_F(Methods, ALayerWithoutMatricesHasNoScore) {
  std::vector<GgufTensor> tensors;
  for (const char* name : {"blk.0.mixer.weight", "blk.1.attn_norm.weight", "blk.2.mixer.weight"})
    tensors.push_back({name, {64, 64}, GgufType::F32, 0});
  tensors[1].shape = {64};
  const std::filesystem::path path = directory_ / "gap.gguf";
  GgufWriter writer(path, {{"general.architecture", gguf_string("peculiar")}}, tensors);
  for (const GgufTensor& tensor : tensors) {
    std::vector<float> values(tensor.bytes() / sizeof(float));
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
    writer.write(reinterpret_cast<const std::byte*>(values.data()), tensor.bytes());
  }
  writer.commit();
  const Model model = open_model(path);
  AllocatorOptions allocator;
  allocator.schemes = parse_schemes("Q4_0,Q8_0");
  allocator.budget.bits_per_weight = 5;
  for (const char* method : {"uniform", "first-last", "random", "zd", "ewq", "kurtosis"}) {
    const Scores scores = scores_from_json(to_json(score(model, method, {})), method);
    ASSERT_EQ(scores.scores.size(), 2U) << method;
    EXPECT_EQ(scores.scores[1].layer, 2) << method;
    EXPECT_EQ(allocate(modules_of(scores), scores, allocator).assignments.size(), 2U) << method;
  }
}

TEST_F(Methods, CostsWeighRelativeErrorsByScore) {
  SensitivityOptions options;
  options.schemes = parse_schemes("w3g32");
  Evidence evidence;
  evidence.errors =
      std::make_shared<const WeightErrors>(measure_weight_errors(model_, options.schemes, options.quantizer));
  const Scores layers = score(model_, "first-last", options, evidence),
               modules = score(model_, "kurtosis", options, evidence);
  for (size_t i = 0; i < model_.modules.size(); ++i) {
    const Module& module = model_.modules[i];
    const std::vector<float>& w = weights(module);
    double norm = 0;
    for (float x : w) norm += static_cast<double>(x) * x;
    QuantizerOptions rtn;
    rtn.name = "rtn";
    const double relative =
        quantization_error({w.data(), module.rows, module.cols}, options.schemes[0], rtn) / norm;
    const double share =
        static_cast<double>(module.params()) / static_cast<double>(layers.scores[module.layer].params);
    EXPECT_NEAR(layers.costs[i].cost, layers.scores[module.layer].score * share * relative, 1e-6 * relative);
    EXPECT_NEAR(modules.costs[i].cost, modules.scores[i].score * share * relative, 1e-6 * relative);
    EXPECT_EQ(layers.costs[i].tensor, module.tensor);
    EXPECT_EQ(layers.costs[i].scheme, "w3g32");
  }
}

TEST_F(Methods, MeasuredErrorsAreReused) {
  SensitivityOptions options;
  options.schemes = parse_schemes("w2g32,w3g32");
  WeightErrors errors = measure_weight_errors(model_, options.schemes, options.quantizer);
  for (WeightErrors::Row& row : errors.rows) row.squared_errors = {2 * row.squared_norm, row.squared_norm};
  Evidence evidence;
  evidence.errors = std::make_shared<const WeightErrors>(errors);
  const Scores uniform = score(model_, "uniform", options, evidence),
               absolute = score(model_, "weight-error", options, evidence);
  EXPECT_NEAR(uniform.costs[0].cost / uniform.costs[1].cost, 2, 1e-12);
  EXPECT_EQ(absolute.scores[0].score, 2 * errors.rows[0].squared_norm);
}

}  // namespace
}  // namespace strata
