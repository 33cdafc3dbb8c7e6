#include "strata/sensitivity/change_losses.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "strata/core/blas_threads.h"
#include "strata/forward/load_tensor.h"
#include "strata/sensitivity/cost_sheet.h"
#include "tests/support/architecture_models.h"
#include "tests/support/double_model.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

// Every output is what the whole layer gives with those matrices replaced, for every architecture.
class LayerChanges : public testing::TestWithParam<std::string> {};

TEST_P(LayerChanges, GiveWhatTheLayerGivesWithItsMatricesReplaced) {
  const at::NoGradGuard no_grad;
  const Model model = open_model(architecture_model(GetParam()).directory);
  Decoder decoder(model, {}), changed(model, {});
  const at::Tensor hidden = decoder.embed(random_ids(2, 12));
  LayerOptions options;
  const std::vector<const Module*> modules = model.layer_modules(1);
  std::vector<std::string> names;
  for (const Module* module : modules) names.push_back(module->name);
  size_t singles = 0, of_pairs = 0;
  for (size_t m = 0; m < modules.size(); ++m) {
    const size_t count = std::vector<size_t>{2, 1, 2, 1, 2, 0, 1}[m % 7];
    of_pairs += singles * count;
    singles += count;
    options.emplace_back();
    for (size_t i = 0; i < count; ++i)
      options.back().push_back(decoder.weight(modules[m]->tensor) * (0.5 + static_cast<double>(i)));
  }
  for (const bool pairs : {false, true}) {
    const ChangeIndex index(options, pairs);
    std::set<size_t> seen;
    int outputs = 0;
    for_each_change(decoder.layer_run(1, 12), names, options, pairs, hidden,
                    [&](const LayerChoice& choice, const at::Tensor& output) {
                      changed.restore_all();
                      for (size_t m = 0; m < modules.size(); ++m)
                        if (choice[m] > 0)
                          changed.replace(modules[m]->tensor, options[m][static_cast<size_t>(choice[m]) - 1]);
                      EXPECT_TRUE(at::allclose(output, changed.layer(1, hidden), 1e-4, 1e-5));
                      if (choice == LayerChoice(modules.size()))
                        EXPECT_EQ(outputs, 0);
                      else
                        seen.insert(index.of(choice));
                      ++outputs;
                    });
    EXPECT_EQ(index.size(), pairs ? singles + of_pairs : singles);
    EXPECT_EQ(seen.size(), index.size());
    EXPECT_EQ(outputs, static_cast<int>(index.size()) + 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, LayerChanges, testing::ValuesIn(architecture_models()),
                         [](const auto& name) { return test_name(name.param); });

class ChangeLossesTest : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(directory_ / "model", {});
    model_ = open_model(directory_ / "model");
    exact_ = std::make_unique<DoubleModel>(model_);
    evidence_.calibration = std::make_shared<const Calibration>(make_calibration(random_ids(4, 12), "test"));
    options_.methods.get<HighImpactOptions>().tokens = 36;  // three blocks of four
    options_.schemes = schemes_;
  }

  at::Tensor quantized(const Module& module, const Scheme& scheme) const {
    return quantized_weight(load_tensor(*model_.checkpoint, module.tensor, at::kCPU, at::kFloat), scheme,
                            options_.quantizer)
        .to(at::kDouble);
  }

  // The loss of replacing some modules of one layer, from a run of the whole model in double precision.
  double brute_force(const std::map<const Module*, Scheme>& changes) const {
    const at::Tensor ids = evidence_.calibration->ids.narrow(0, 0, 3);
    const int layer = changes.begin()->first->layer;
    DoubleModel exact(model_), changed(model_);
    for (const auto& [module, scheme] : changes) changed.weight(module->tensor) = quantized(*module, scheme);
    if (options_.methods.get<HighImpactOptions>().loss == HighImpactOptions::Loss::Logits)
      return (exact.forward(ids) - changed.forward(ids)).square().sum().item<double>() / 3;
    at::Tensor a = exact.embed(ids), b = a;
    for (int l = 0; l <= layer; ++l) {
      a = exact.layer(l, a);
      b = changed.layer(l, b);
    }
    return (a - b).square().sum().item<double>() / 3;
  }

  TemporaryDirectory directory_;
  const BlasThreads one_thread_{1};
  Model model_;
  std::unique_ptr<DoubleModel> exact_;
  SensitivityOptions options_;
  Evidence evidence_;
  std::vector<Scheme> schemes_ = parse_schemes("w2g32,w3g32");
};

TEST_F(ChangeLossesTest, AreThoseOfTheWholeModelWithTheMatricesReplaced) {
  for (const auto loss : {HighImpactOptions::Loss::Layer, HighImpactOptions::Loss::Logits}) {
    options_.methods.get<HighImpactOptions>().loss = loss;
    const ChangeLosses losses = measure_change_losses(model_, options_, evidence_);
    ASSERT_EQ(losses.layers.size(), 2u);
    for (int layer = 0; layer < 2; ++layer) {
      const std::vector<double>& measured = losses.layers[static_cast<size_t>(layer)];
      ASSERT_EQ(measured.size(), 14u + 21 * 4);
      const std::vector<const Module*> modules = model_.layer_modules(layer);
      for (size_t r = 0; r < modules.size(); ++r) {
        const Module& module = *modules[r];
        for (size_t s = 0; s < schemes_.size(); ++s) {
          const double expected = brute_force({{&module, schemes_[s]}});
          EXPECT_NEAR(measured[losses.indices[static_cast<size_t>(layer)].single(r, s)], expected,
                      1e-4 * expected)
              << module.tensor;
          for (size_t later = r + 1; later < modules.size(); ++later) {
            const Module& other = *modules[later];
            for (size_t t = 0; t < schemes_.size(); ++t) {
              const double of_both = brute_force({{&module, schemes_[s]}, {&other, schemes_[t]}});
              EXPECT_NEAR(measured[losses.indices[static_cast<size_t>(layer)].pair(r, s, later, t)], of_both,
                          1e-4 * of_both)
                  << module.tensor << " and " << other.tensor;
            }
          }
        }
      }
    }
  }
}

TEST_F(ChangeLossesTest, AreFoundAgainLayerByLayer) {
  options_.cache = directory_ / "cache";
  const ChangeLosses first = measure_change_losses(model_, options_, evidence_);
  // Results of other numbers in their place show that the file is read.
  const auto file = std::filesystem::directory_iterator(options_.cache)->path();
  std::ifstream in(file);
  std::string identity, line;
  std::getline(in, identity);
  std::getline(in, line);
  std::ofstream(file) << identity << '\n' << line << '\n';
  const ChangeLosses again = measure_change_losses(model_, options_, evidence_);
  EXPECT_EQ(again.layers, first.layers);
  Json entry = Json::parse(line);
  entry["value"][5] = 123.0;
  std::ofstream(file) << identity << '\n' << entry.dump() << '\n';
  EXPECT_EQ(measure_change_losses(model_, options_, evidence_).layers[0][5], 123.0);
}

TEST_F(ChangeLossesTest, NeedTokens) {
  options_.methods.get<HighImpactOptions>().tokens = 0;
  EXPECT_NE(error_of([&] { measure_change_losses(model_, options_, evidence_); }).find("at least one"),
            std::string::npos);
}

}  // namespace
}  // namespace strata
