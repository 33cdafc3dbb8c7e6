#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "strata/core/error.h"
#include "strata/sensitivity/method.h"
#include "strata/sensitivity/nsds_aggregation.h"
#include "strata/sensitivity/nsds_options.h"
#include "tests/sensitivity/brute_force.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

at::Tensor read(const Model& model, const std::string& name) {
  const TensorInfo& info = model.checkpoint->info(name);
  at::Tensor tensor = at::empty(info.shape, at::kFloat);
  model.checkpoint->read(info, tensor.data_ptr<float>());
  return tensor;
}

// What the definition gives for one layer of a model.
NsdsLayer brute_force_layer(const Model& model, int layer, const NsdsOptions& options) {
  const auto weight = [&](Role role) { return read(model, model.module(layer, role).tensor); };
  const int64_t heads = model.config.num_heads, kv_heads = model.config.num_kv_heads;
  const at::Tensor p = brute_force::basis(read(model, model.head), options);
  NsdsLayer values;
  values[0] = brute_force::query_key(weight(Role::Q), weight(Role::K), heads, kv_heads, options);
  values[1] = brute_force::output_value(weight(Role::O), weight(Role::V), heads, kv_heads, p, options);
  values[2] = brute_force::detector_matrix(weight(Role::Gate), options);
  values[3] = brute_force::detector_matrix(weight(Role::Up), options);
  values[4] = brute_force::writer_matrix(weight(Role::Down), p, options);
  return values;
}

void expect_components(const Json& line, const NsdsLayer& expected) {
  for (int c = 0; c < kNsdsComponents; ++c) {
    const std::string name(name_of(static_cast<NsdsComponent>(c)));
    const double nv = expected[c]->numerical_vulnerability, se = expected[c]->structural_expressiveness;
    EXPECT_NEAR(line["components"][name]["nv"].get<double>(), nv, 1e-3 * std::abs(nv)) << name;
    EXPECT_NEAR(line["components"][name]["se"].get<double>(), se, 1e-3 * std::abs(se)) << name;
  }
}

// Every reading of every open choice, from the checkpoint to the scores.
TEST(Nsds, AgreesWithTheDefinitionFromEndToEnd) {
  TemporaryDirectory directory;
  TinyModel tiny;
  tiny.layers = 5;
  tiny.tied = false;
  tiny.head_dim = 12;  // not hidden / heads
  write_tiny_model(directory / "model", tiny);
  const Model model = open_model(directory / "model");
  for (double tau : {0.90, 0.99})
    for (bool multiply : {true, false}) {
      SensitivityOptions options;
      options.methods.get<NsdsOptions>().tau = tau;
      options.methods.get<NsdsOptions>().multiply_entropy = multiply;
      std::vector<NsdsLayer> layers;
      for (int l = 0; l < 5; ++l)
        layers.push_back(brute_force_layer(model, l, options.methods.get<NsdsOptions>()));
      for (bool consistent : {true, false}) {
        options.methods.get<NsdsOptions>().consistent_mad = consistent;
        const Scores scores = score(model, "nsds", options);
        EXPECT_EQ(scores.details["tau"], tau);
        EXPECT_EQ(scores.details["multiply_entropy"], multiply);
        EXPECT_EQ(scores.details["consistent_mad"], consistent);
        const std::vector<NsdsLayerScore> expected = aggregate_nsds(layers, consistent);
        for (int l = 0; l < 5; ++l) {
          const Json& line = scores.details["layers"][l];
          expect_components(line, layers[l]);
          EXPECT_NEAR(scores.scores[l].score, expected[l].log_form, 1e-2 * expected[l].log_form);
          EXPECT_EQ(line["log_form"].get<double>(), scores.scores[l].score);
          EXPECT_NEAR(line["soft_or"].get<double>(), -std::expm1(-scores.scores[l].score), 1e-12);
          const double p_nv = line["p_nv"], p_se = line["p_se"];
          EXPECT_NEAR(line["soft_or"].get<double>(), 1 - (1 - p_nv) * (1 - p_se), 1e-9);
        }
      }
    }
}

TEST(Nsds, AgreesWithTheDefinitionOnALayerOfATrainedModel) {
  Model model = open_model(std::filesystem::path(STRATA_SOURCE_DIR) / "models/tiny-llama");
  const NsdsLayer expected = brute_force_layer(model, 0, {});
  model.config.num_layers = 1;
  std::vector<Module> first;
  for (const Module& module : model.modules)
    if (module.layer == 0) first.push_back(module);
  model.modules = first;
  expect_components(score(model, "nsds", {}).details["layers"][0], expected);
}

TEST(Nsds, ALayerWithoutAGateSkipsIt) {
  TemporaryDirectory directory;
  write_tiny_model(directory / "model", {});
  Model model = open_model(directory / "model");
  const Json with = score(model, "nsds", {}).details["layers"][1]["components"];
  std::vector<Module> kept;
  for (const Module& module : model.modules)
    if (module.role != Role::Gate) kept.push_back(module);
  model.modules = kept;
  const Json without = score(model, "nsds", {}).details["layers"][1]["components"];
  EXPECT_TRUE(with.contains("gate"));
  EXPECT_FALSE(without.contains("gate"));
  EXPECT_EQ(with["up"], without["up"]);
}

TEST(Nsds, ATauOutsideItsRangeIsRefused) {
  TemporaryDirectory directory;
  write_tiny_model(directory / "model", {});
  const Model model = open_model(directory / "model");
  for (double tau : {0.0, -1.0, 1.5, std::nan("")}) {
    SensitivityOptions options;
    options.methods.get<NsdsOptions>().tau = tau;
    EXPECT_THROW(score(model, "nsds", options), UsageError) << tau;
  }
}

}  // namespace
}  // namespace strata
