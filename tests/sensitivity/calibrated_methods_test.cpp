#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "strata/calibration/activations.h"
#include "strata/calibration/gradients.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/random.h"
#include "strata/forward/decoder.h"
#include "strata/model/boundary_modules.h"
#include "strata/sensitivity/kl.h"
#include "strata/sensitivity/method.h"
#include "strata/sensitivity/sensiboost.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/random_model.h"
#include "tests/support/three_layer_model.h"

namespace strata {
namespace {

class CalibratedMethods : public ThreeLayerModel {
 protected:
  void SetUp() override {
    decoder_ = std::make_unique<Decoder>(model_, DecoderOptions());
    const at::Tensor ids = random_ids(4, 12);
    evidence_.calibration = std::make_shared<const Calibration>(make_calibration(ids, "test"));
    options_.schemes = parse_schemes("w4g32,w2g32,w3g32");
    hidden_.push_back(decoder_->embed(ids));
    for (int layer = 0; layer < 3; ++layer) hidden_.push_back(decoder_->layer(layer, hidden_.back()));
  }

  at::Tensor quantized(const Module& module, const std::string& scheme, const char* quantizer = "rtn") {
    at::Tensor weight = decoder_->weight(module.tensor).clone();
    QuantizerOptions options;
    options.name = quantizer;
    fake_quantize({weight.data_ptr<float>(), module.rows, module.cols}, parse_scheme(scheme), options);
    return weight;
  }

  at::Tensor difference(const Module& module, const std::string& scheme) {
    return (decoder_->weight(module.tensor) - quantized(module, scheme)).to(at::kDouble);
  }

  // Every cost equals `expected`, and each module's score is its cost in the lowest scheme.
  template <class Expected>
  void expect_costs(const Scores& scores, double tolerance, const Expected& expected) {
    ASSERT_EQ(scores.costs.size(), model_.modules.size() * options_.schemes.size());
    ASSERT_EQ(scores.scores.size(), model_.modules.size());
    size_t at = 0;
    for (size_t m = 0; m < model_.modules.size(); ++m)
      for (const Scheme& scheme : options_.schemes) {
        const Cost& cost = scores.costs[at++];
        const double value = expected(model_.modules[m], scheme.name());
        EXPECT_EQ(cost.tensor, model_.modules[m].tensor);
        EXPECT_EQ(cost.scheme, scheme.name());
        EXPECT_NEAR(cost.cost, value, tolerance * value) << cost.tensor << " " << cost.scheme;
        if (cost.scheme == "w2g32") {
          EXPECT_EQ(scores.scores[m].score, cost.cost);
        }
      }
  }

  std::unique_ptr<Decoder> decoder_;
  std::vector<at::Tensor> hidden_;  // before every layer and after the last
  SensitivityOptions options_;
  Evidence evidence_;
};

TEST_F(CalibratedMethods, KlIsThatOfTheWholeModelWithOneMatrixReplaced) {
  options_.methods.get<KlOptions>().tokens = 20;  // two blocks of four
  const at::Tensor ids = evidence_.calibration->ids.narrow(0, 0, 2);
  const at::Tensor log_p = at::log_softmax(decoder_->forward(ids).to(at::kDouble), -1);
  const auto divergence = [&](const Module& module, const std::string& scheme) {
    decoder_->replace(module.tensor, quantized(module, scheme));
    const at::Tensor log_q = at::log_softmax(decoder_->forward(ids).to(at::kDouble), -1);
    decoder_->restore(module.tensor);
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean().item<double>();
  };
  expect_costs(score(model_, "kl", options_, evidence_), 1e-3, divergence);
}

// Leaves weights that no other quantizer would.
class Growing : public SchemeTrials {
 public:
  std::string identity() const override { return "growing"; }
  void quantize(const std::string&, const Scheme& scheme, MatrixView<float> weights) override {
    const float factor = 1 + static_cast<float>(scheme.affine.bits) / 8;
    for (int64_t i = 0; i < weights.rows * weights.cols; ++i) weights.data[i] *= factor;
  }
};

TEST_F(CalibratedMethods, KlMeasuresTheWeightsThatATrialLeaves) {
  options_.trials = std::make_shared<Growing>();
  const at::Tensor& ids = evidence_.calibration->ids;
  const at::Tensor log_p = at::log_softmax(decoder_->forward(ids).to(at::kDouble), -1);
  const auto divergence = [&](const Module& module, const std::string& scheme) {
    const double factor = 1 + parse_scheme(scheme).affine.bits / 8.0;
    decoder_->replace(module.tensor, decoder_->weight(module.tensor) * factor);
    const at::Tensor log_q = at::log_softmax(decoder_->forward(ids).to(at::kDouble), -1);
    decoder_->restore(module.tensor);
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean().item<double>();
  };
  const Scores scores = score(model_, "kl", options_, evidence_);
  expect_costs(scores, 1e-3, divergence);
  EXPECT_EQ(scores.details["quantizer"], "growing");
}

// Embedding and head apart, and as one matrix that both uses share.
TEST_F(CalibratedMethods, KlOfEmbeddingAndHeadIsThatOfTheWholeModel) {
  for (const bool tied : {false, true}) {
    SCOPED_TRACE(tied);
    Json config = small_config("llama");
    config["tie_word_embeddings"] = tied;
    const std::filesystem::path path = directory_ / (tied ? "tied" : "untied");
    write_random_model(path, config, DType::F32);
    const Model model = open_model(path);
    options_.boundaries = boundary_modules(model);
    ASSERT_EQ(options_.boundaries.size(), tied ? 1u : 2u);
    const at::Tensor ids = evidence_.calibration->ids;
    Decoder decoder(model, {});
    const at::Tensor log_p = at::log_softmax(decoder.forward(ids).to(at::kDouble), -1);
    const Scores scores = score(model, "kl", options_, evidence_);
    ASSERT_EQ(scores.boundaries.size(), options_.boundaries.size());
    ASSERT_EQ(scores.costs.size(), (model.modules.size() + scores.boundaries.size()) * 3);
    for (size_t i = model.modules.size() * 3; i < scores.costs.size(); ++i) {
      const Cost& cost = scores.costs[i];
      at::Tensor weight = decoder.weight(cost.tensor).clone();
      QuantizerOptions rtn;
      rtn.name = "rtn";
      fake_quantize({weight.data_ptr<float>(), cost.rows, cost.cols}, parse_scheme(cost.scheme), rtn);
      decoder.replace(cost.tensor, weight);
      const at::Tensor log_q = at::log_softmax(decoder.forward(ids).to(at::kDouble), -1);
      decoder.restore(cost.tensor);
      const double expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item<double>();
      EXPECT_NEAR(cost.cost, expected, 1e-3 * expected) << cost.tensor << " " << cost.scheme;
      EXPECT_GT(expected, 0);
    }
  }
}

// Methods that do not look at embedding and head give them costs by their weight beside the layers'.
TEST_F(CalibratedMethods, EveryMethodWithCostsHasThemForEmbeddingAndHead) {
  options_.boundaries = boundary_modules(model_);
  ASSERT_FALSE(options_.boundaries.empty());
  for (const SensitivityMethod& method : sensitivity_methods()) {
    if (method.name == "infoq") continue;  // wants more tokens than these
    const Scores scores = score(model_, method.name, options_, evidence_);
    ASSERT_EQ(scores.boundaries.size(), options_.boundaries.size()) << method.name;
    std::map<std::string, int> costs;
    for (const Cost& cost : scores.costs) {
      ++costs[cost.tensor];
      if (cost.tensor == scores.boundaries[0].tensor) {
        EXPECT_GT(cost.cost, 0) << method.name;
      }
    }
    EXPECT_EQ(costs.at(scores.boundaries[0].tensor), 3) << method.name;
  }
}

TEST_F(CalibratedMethods, AnInterruptedRunGoesOnFromItsCache) {
  const Scores whole = score(model_, "kl", options_, evidence_);
  options_.cache = directory_ / "cache";
  EXPECT_EQ(to_json(score(model_, "kl", options_, evidence_)), to_json(whole));
  const auto path = std::filesystem::directory_iterator(options_.cache)->path();
  const std::string text = read_text(path);
  write_text(path, text.substr(0, text.size() / 2));
  EXPECT_EQ(to_json(score(model_, "kl", options_, evidence_)), to_json(whole));

  // Kept costs are taken as they are: another value in the file comes back.
  std::ofstream(path, std::ios::app)
      << Json{{"key", model_.modules[4].tensor + " w3g32"}, {"value", 77.0}}.dump() << "\n";
  EXPECT_EQ(score(model_, "kl", options_, evidence_).costs[4 * 3 + 2].cost, 77.0);
  // Other calibration tokens are another matter.
  evidence_.calibration = std::make_shared<const Calibration>(
      make_calibration(evidence_.calibration->ids.narrow(0, 1, 2), "test"));
  EXPECT_NE(score(model_, "kl", options_, evidence_).costs[4 * 3 + 2].cost, 77.0);
}

TEST_F(CalibratedMethods, OutputErrorIsTheMeanSquaredChangeOfTheOutputs) {
  std::map<std::string, at::Tensor> inputs;
  decoder_->observe([&](int layer, std::string_view what, const at::Tensor& value) {
    if (what != "layer")
      inputs[model_.layer_tensor(layer, std::string(what) + ".weight")] =
          value.reshape({-1, value.size(-1)}).to(at::kDouble);
  });
  decoder_->forward(evidence_.calibration->ids);
  decoder_->observe(nullptr);
  expect_costs(score(model_, "output-error", options_, evidence_), 1e-4,
               [&](const Module& module, const std::string& scheme) {
                 const at::Tensor change = at::mm(inputs.at(module.tensor), difference(module, scheme).t());
                 return change.square().sum(1).mean().item<double>();
               });
}

TEST_F(CalibratedMethods, OutputErrorTakesAnImatrixInsteadOfTokens) {
  const Imatrix imatrix = measure_imatrix(model_, *evidence_.calibration, options_.device);
  write_imatrix(directory_ / "imatrix.gguf", imatrix);
  evidence_.calibration = nullptr;
  evidence_.imatrix = std::make_shared<const Imatrix>(read_imatrix(directory_ / "imatrix.gguf", model_));
  options_.schemes = parse_schemes("w2g32,Q4_0");
  const Scores scores = score(model_, "output-error", options_, evidence_);
  for (size_t m = 0; m < model_.modules.size(); ++m) {
    const Module& module = model_.modules[m];
    const std::vector<float> means = imatrix.mean_squares(module.tensor);
    const at::Tensor weights = at::tensor(means, at::kDouble);
    const double plain = (difference(module, "w2g32").square() * weights).sum().item<double>();
    EXPECT_NEAR(scores.costs[2 * m].cost, plain, 1e-4 * plain);
    // GGUF types are encoded with the imatrix as their importance.
    at::Tensor weighed = decoder_->weight(module.tensor).clone();
    QuantizerOptions quantizer;
    quantizer.importance = means.data();
    fake_quantize({weighed.data_ptr<float>(), module.rows, module.cols}, parse_scheme("Q4_0"), quantizer);
    const at::Tensor error = (decoder_->weight(module.tensor) - weighed).to(at::kDouble);
    const double encoded = (error.square() * weights).sum().item<double>();
    EXPECT_NEAR(scores.costs[2 * m + 1].cost, encoded, 1e-4 * encoded);
  }
}

TEST_F(CalibratedMethods, GradientsWeighTheErrorsOfFisherAndLlmMq) {
  std::map<std::string, at::Tensor> mean, mean_square;
  for_each_gradient(model_, *evidence_.calibration, {},
                    [&](const Module& module, int64_t block, const at::Tensor& gradient) {
                      const at::Tensor g = gradient.to(at::kDouble);
                      mean[module.tensor] = block == 0 ? g / 4 : mean[module.tensor] + g / 4;
                      mean_square[module.tensor] =
                          block == 0 ? g.square() / 4 : mean_square[module.tensor] + g.square() / 4;
                    });
  expect_costs(
      score(model_, "fisher", options_, evidence_), 1e-4,
      [&](const Module& module, const std::string& scheme) {
        return (mean_square.at(module.tensor) * difference(module, scheme).square()).sum().item<double>();
      });
  // The products of LLM-MQ nearly cancel, which costs digits.
  const Scores scores = score(model_, "llm-mq", options_, evidence_);
  size_t at = 0;
  for (const Module& module : model_.modules)
    for (const Scheme& scheme : options_.schemes) {
      const at::Tensor terms = mean.at(module.tensor) * difference(module, scheme.name());
      EXPECT_NEAR(scores.costs[at++].cost, std::abs(terms.sum().item<double>()),
                  1e-5 * terms.abs().sum().item<double>());
    }
}

TEST_F(CalibratedMethods, LimIsTheMeanCosineDistanceOverTokens) {
  const Scores scores = score(model_, "lim", options_, evidence_);
  ASSERT_EQ(scores.scores.size(), 3u);
  for (size_t layer = 0; layer < 3; ++layer) {
    double sum = 0;
    for (int64_t t = 0; t < 48; ++t) {
      const at::Tensor x = hidden_[layer].reshape({48, 32})[t].to(at::kDouble);
      const at::Tensor y = hidden_[layer + 1].reshape({48, 32})[t].to(at::kDouble);
      sum += ((x * y).sum() / (x.norm() * y.norm())).item<double>();
    }
    EXPECT_NEAR(scores.scores[layer].score, 1 - sum / 48, 1e-5);
  }
}

TEST_F(CalibratedMethods, LsaqIsTheJaccardDistanceOfTheLikeliestTokens) {
  const Scores scores = score(model_, "lsaq", options_, evidence_);
  const auto likeliest = [&](const at::Tensor& logits) {
    std::vector<std::pair<float, int64_t>> ranked;
    for (int64_t v = 0; v < 64; ++v) ranked.emplace_back(-logits[v].item<float>(), v);
    std::sort(ranked.begin(), ranked.end());
    std::set<int64_t> set;
    for (size_t i = 0; i < 50; ++i) set.insert(ranked[i].second);
    return set;
  };
  for (size_t layer = 0; layer < 3; ++layer) {
    const at::Tensor before = decoder_->logits(hidden_[layer]).view({48, 64});
    const at::Tensor after = decoder_->logits(hidden_[layer + 1]).view({48, 64});
    double sum = 0;
    for (int64_t t = 0; t < 48; ++t) {
      const std::set<int64_t> a = likeliest(before[t]), b = likeliest(after[t]);
      double shared = 0;
      for (const int64_t id : a) shared += static_cast<double>(b.count(id));
      sum += shared / (100 - shared);
    }
    EXPECT_NEAR(scores.scores[layer].score, 1 - sum / 48, 1e-3);
  }
}

TEST_F(CalibratedMethods, LieqIsTheCompactnessGainedOverRandomWeights) {
  options_.seed = 9;
  const Scores scores = score(model_, "lieq", options_, evidence_);
  Random random(9);
  // 1 / exp(entropy) of the spectrum of the outputs' covariance, from the outputs themselves.
  const auto compactness = [](const at::Tensor& outputs) {
    const at::Tensor centred = outputs - outputs.mean(0, true);
    const at::Tensor values = at::square(std::get<1>(at::svd(centred)));
    const at::Tensor p = values / values.sum();
    return std::exp((p * (p + 1e-300).log()).sum().item<double>());
  };
  for (int layer = 0; layer < 3; ++layer) {
    at::Tensor x;
    decoder_->observe([&](int, std::string_view what, const at::Tensor& value) {
      if (what == "self_attn.q_proj") x = value.reshape({48, 32}).to(at::kDouble);
    });
    decoder_->layer(layer, hidden_[layer]);
    decoder_->observe(nullptr);
    double gained = 0;
    for (const Role role : {Role::Q, Role::K, Role::V}) {
      const Module& module = model_.module(layer, role);
      at::Tensor drawn = at::empty({module.rows, module.cols}, at::kFloat);
      for (int64_t i = 0; i < drawn.numel(); ++i)
        drawn.data_ptr<float>()[i] = static_cast<float>(random.normal());
      gained += compactness(at::mm(x, decoder_->weight(module.tensor).to(at::kDouble).t())) -
                compactness(at::mm(x, drawn.to(at::kDouble).t()));
    }
    EXPECT_NEAR(scores.scores[layer].score, gained / 3, 1e-4);
  }
}

// A stage that routes has no matrices.
TEST(CalibratedMethodsOfExperts, SensiboostSeesEveryMatrixOfALayer) {
  for (const char* name : {"qwen3-moe", "qwen2-moe"}) {
    const Model model = open_model(architecture_model(name).directory);
    Evidence evidence;
    evidence.calibration = std::make_shared<const Calibration>(
        make_calibration(random_ids(2, 12, model.config.vocab_size), "test"));
    const Scores scores = score(model, "sensiboost", {}, evidence);
    ASSERT_EQ(scores.scores.size(), model.modules.size()) << name;
    for (const Score& line : scores.scores) EXPECT_GT(line.score, 0) << name << " " << line.module;
  }
}

TEST_F(CalibratedMethods, SensiboostIsTheErrorOfEachPartAlone) {
  const Scores scores = score(model_, "sensiboost", options_, evidence_);
  options_.methods.get<SensiboostOptions>().grouped_query_rule = true;
  const Scores ruled = score(model_, "sensiboost", options_, evidence_);
  // With a `down` of zeros a layer's output is its input plus the attention's.
  const auto part_error = [&](int layer, const std::vector<Role>& roles, bool attention) {
    decoder_->restore_all();
    const Module& down = model_.module(layer, Role::Down);
    if (attention) decoder_->replace(down.tensor, at::zeros({down.rows, down.cols}));
    const at::Tensor exact = decoder_->layer(layer, hidden_[layer]);
    for (const Role role : roles) {
      const Module& module = model_.module(layer, role);
      decoder_->restore(module.tensor);
      decoder_->replace(module.tensor, quantized(module, "w4g64", "hqq"));
    }
    const double error =
        (decoder_->layer(layer, hidden_[layer]) - exact).to(at::kDouble).square().mean().item<double>();
    decoder_->restore_all();
    return error;
  };
  for (size_t m = 0; m < model_.modules.size(); ++m) {
    const Module& module = model_.modules[m];
    const std::map<Role, std::vector<Role>> parts = {{Role::Q, {Role::Q, Role::K, Role::V}},
                                                     {Role::O, {Role::O}},
                                                     {Role::Gate, {Role::Gate, Role::Up}},
                                                     {Role::Down, {Role::Down}}};
    const Role part = model_.module(module.layer, module.input).role;
    const bool attention = part == Role::Q || part == Role::O;
    const double expected = part_error(module.layer, parts.at(part), attention);
    EXPECT_NEAR(scores.scores[m].score, expected, 1e-3 * expected) << module.tensor;
    const double by_rule = part == Role::O ? part_error(module.layer, parts.at(Role::Q), true) : expected;
    EXPECT_NEAR(ruled.scores[m].score, by_rule, 1e-3 * by_rule) << module.tensor;
  }
}

TEST_F(CalibratedMethods, MxqSumsFrobeniusNormsOfHqqWithoutItsSecondLevel) {
  options_.schemes = parse_schemes("w2g32ma0,w3g32ma0");
  const Scores scores = score(model_, "mxq", options_, evidence_);
  for (size_t m = 0; m < model_.modules.size(); ++m) {
    const Module& module = model_.modules[m];
    const at::Tensor error = decoder_->weight(module.tensor) - quantized(module, "w3g32a0", "hqq");
    EXPECT_NEAR(scores.costs[2 * m + 1].cost, error.to(at::kDouble).norm().item<double>(), 1e-5);
  }
}

TEST_F(CalibratedMethods, RefuseToScoreWithoutTokens) {
  evidence_.calibration = nullptr;
  for (const SensitivityMethod& method : sensitivity_methods())
    if (method.needs_calibration) {
      EXPECT_NE(error_of([&] { score(model_, method.name, options_, evidence_); }).find(method.name),
                std::string::npos);
    }
}

}  // namespace
}  // namespace strata
