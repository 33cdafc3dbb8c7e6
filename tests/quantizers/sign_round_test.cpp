#include "strata/quantizers/sign_round.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/forward/load_tensor.h"
#include "strata/gguf/levels.h"
#include "strata/quantizers/searched_grid.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

at::Tensor normal_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  Random random(seed);
  at::Tensor matrix = at::empty({rows, cols}, at::kFloat);
  for (int64_t i = 0; i < matrix.numel(); ++i)
    matrix.data_ptr<float>()[i] = static_cast<float>(0.1 * random.normal() + 0.01);
  return matrix;
}

QuantizedMatrix searched(const at::Tensor& weights, const std::string& scheme) {
  return search_grid({weights.data_ptr<float>(), weights.size(0), weights.size(1)}, parse_scheme(scheme),
                     nullptr, nullptr);
}

// One step of signed rounding as its paper has it, by autograd in double precision: V and the factors of
// scales and minimums after the step, and the weights before it.
struct PaperStep {
  at::Tensor weights, scale_factor, min_factor, rounding;
};

PaperStep paper_step(const StoredGrid& grid, const at::Tensor& weights, const at::Tensor& gradient,
                     const at::Tensor& rounding, double scale_factor, double min_factor, double length) {
  const at::AutoGradMode with_gradients(true);
  const auto twice = [](const at::Tensor& x) { return x.to(at::kDouble); };
  const at::Tensor w = twice(grid.layout.to_groups(weights)), g = twice(grid.layout.to_groups(gradient));
  at::Tensor v = twice(rounding).clone().set_requires_grad(true);
  at::Tensor a = at::full_like(twice(grid.floats.scale), scale_factor).set_requires_grad(true);
  at::Tensor b = at::full_like(a, min_factor).detach().set_requires_grad(true);
  const at::Tensor ones = at::ones({a.size(0), grid.groups_per_block}, at::kDouble);
  const auto for_groups = [&](const at::Tensor& x) {
    return (x * ones).reshape({-1, 1}).narrow(0, 0, w.size(0));
  };
  const auto with_grad = [](const at::Tensor& exact, const at::Tensor& rounded) {
    return exact + (rounded - exact).detach();
  };
  const auto stored = [&](const at::Tensor& x) {
    return with_grad(x, twice(x.to(at::kFloat).to(at::kHalf)));
  };
  at::Tensor s = for_groups(stored(twice(grid.floats.scale) * a));
  if (grid.unit.defined()) s = s * twice(grid.unit);
  if (grid.floats.scale_minimum.defined()) s = s + for_groups(stored(twice(grid.floats.scale_minimum) * a));
  at::Tensor o = at::zeros_like(s);
  if (grid.floats.minimum.defined()) {
    o = for_groups(stored(twice(grid.floats.minimum) * b));
    if (grid.min_unit.defined()) o = o * twice(grid.min_unit);
  }
  const at::Tensor z = twice(grid.floats.zero);
  const at::Tensor exact = (w + o) / s + z + v;
  const at::Tensor rounded = (s * (with_grad(exact, exact.round()).clamp(0, grid.largest_code) - z)) - o;
  (rounded * g).sum().backward();
  const at::NoGradGuard no_grad;
  PaperStep step;
  step.weights = grid.layout.to_matrix(rounded.detach());
  step.rounding = (v - length * v.grad().sign()).clamp(-0.5, 0.5);
  step.scale_factor = (a - length * a.grad().sign()).clamp(0.5, 1.5);
  if (b.grad().defined()) step.min_factor = (b - length * b.grad().sign()).clamp(0.5, 1.5);
  return step;
}

class SignRoundTest : public testing::TestWithParam<const char*> {};

// What the second step starts from is what the paper's formulas make of the first.
TEST_P(SignRoundTest, StepsAsThePaperDoes) {
  const at::Tensor weights = normal_matrix(6, 512, 1), gradient = normal_matrix(6, 512, 2);
  const OpenedMatrix opened = open_grid(searched(weights, GetParam()));
  const StoredGrid& grid = opened.parts.front();
  SignRound learned(weights, grid);
  const at::Tensor none = at::zeros({grid.codes.size(0), grid.codes.size(1)}, at::kFloat);
  constexpr double kLength = 0.25;  // long, so that many codes change
  const PaperStep first = paper_step(grid, weights, gradient, none, 1, 1, kLength);
  const auto expect_weights = [&](const at::Tensor& expected) {
    // A weight between two codes may be rounded otherwise in single precision.
    const at::Tensor same = (learned.weights(at::kFloat) - expected).abs().lt(1e-5);
    EXPECT_GT(same.to(at::kFloat).mean().item<float>(), 0.998);
  };
  expect_weights(first.weights);
  const at::Tensor before = learned.grid().codes;
  learned.descend(gradient, kLength);
  StoredGrid moved = grid;
  moved.floats.scale = moved.floats.scale * first.scale_factor.to(at::kFloat);
  if (moved.floats.scale_minimum.defined())
    moved.floats.scale_minimum = moved.floats.scale_minimum * first.scale_factor.to(at::kFloat);
  if (moved.floats.minimum.defined())
    moved.floats.minimum = moved.floats.minimum * first.min_factor.to(at::kFloat);
  moved.floats = as_stored(moved, moved.floats);
  expect_weights(paper_step(moved, weights, gradient, first.rounding, 1, 1, 0).weights);
  const StoredGrid after = learned.grid();
  EXPECT_GT(after.codes.ne(before).to(at::kFloat).mean().item<float>(), 0.05);
  EXPECT_TRUE(at::equal(after.floats.scale, moved.floats.scale));
  EXPECT_TRUE(at::equal(weights_of(after, after.floats), learned.weights(at::kFloat)));
}

INSTANTIATE_TEST_SUITE_P(Schemes, SignRoundTest,
                         testing::Values("w2g32", "w3g128z", "w4g64s", "w3row", "w3g32m", "w2g64sm",
                                         "w2g64a0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1",
                                         "Q5_0", "Q5_1", "Q8_0"));

// Levels that are not evenly spaced: without rounding offsets every weight goes to the nearest level.
TEST(SignRound, RoundsToTheNearestOfUnevenLevels) {
  const at::Tensor weights = normal_matrix(4, 64, 3);
  const OpenedMatrix opened = open_grid(searched(weights, "IQ4_NL"));
  const StoredGrid& grid = opened.parts.front();
  SignRound learned(weights, grid);
  const at::Tensor rounded = learned.weights(at::kFloat), steps = steps_of(grid, grid.floats);
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t c = 0; c < 64; ++c) {
      const float w = weights[r][c].item<float>(), s = steps[2 * r + c / 32][0].item<float>();
      float nearest = INFINITY;
      for (const int8_t level : iq4_nl_values)
        if (std::abs(s * level - w) < std::abs(nearest - w)) nearest = s * level;
      EXPECT_NEAR(std::abs(rounded[r][c].item<float>() - w), std::abs(nearest - w), 1e-6);
    }
}

class SignRoundOfAModel : public testing::Test {
 protected:
  void SetUp() override {
    TinyModel tiny;
    tiny.hidden = 64;
    tiny.intermediate = 96;
    tiny.head_dim = 16;
    write_tiny_model(directory_ / "model", tiny);
    model_ = open_model(directory_ / "model");
    calibration_ = std::make_shared<Calibration>(make_calibration(random_ids(32, 16), "test"));
    options_.layers.steps = 20;
    options_.layers.tokens_per_step = 64;
  }

  void TearDown() override { set_thread_count(0); }

  std::map<std::string, Scheme> planned(const std::vector<std::string>& names) const {
    std::map<std::string, Scheme> schemes;
    for (size_t i = 0; i < model_.modules.size(); ++i)
      schemes[model_.modules[i].tensor] = parse_scheme(names[i % names.size()]);
    return schemes;
  }

  std::map<std::string, at::Tensor> learned(const std::map<std::string, Scheme>& schemes, int layers = 2) {
    const auto quantizer = make_sign_round_quantizer(model_, calibration_, options_);
    quantizer->begin(schemes);
    std::map<std::string, at::Tensor> weights;
    for (const Module& module : model_.modules) {
      if (module.layer >= layers) continue;
      at::Tensor values = at::empty({module.rows, module.cols}, at::kFloat);
      quantizer->take(module.tensor).dequantize(values.data_ptr<float>());
      weights[module.tensor] = values;
    }
    return weights;
  }

  at::Tensor weights_at_start(const Module& module, const Scheme& scheme) const {
    at::Tensor weights = load_tensor(*model_.checkpoint, module.tensor, at::kCPU, at::kFloat).contiguous();
    const QuantizedMatrix start =
        search_grid({weights.data_ptr<float>(), module.rows, module.cols}, scheme, nullptr, nullptr);
    start.dequantize(weights.data_ptr<float>());
    return weights;
  }

  // Mean squared distance of the first layer's output from the unquantized one, on the blocks held out.
  double error_of_first_layer(const std::map<std::string, at::Tensor>& weights) const {
    Decoder decoder(model_, {});
    const at::Tensor hidden = decoder.embed(calibration_->ids.narrow(0, 28, 4));
    const at::Tensor target = decoder.layer(0, hidden);
    for (const auto& [tensor, values] : weights) decoder.replace(tensor, values);
    return (decoder.layer(0, hidden) - target).square().mean().item<double>();
  }

  TemporaryDirectory directory_;
  Model model_;
  std::shared_ptr<const Calibration> calibration_;
  SignRoundOptions options_;
};

TEST_F(SignRoundOfAModel, LowersTheErrorOnBlocksHeldOut) {
  for (const std::vector<std::string>& names :
       {std::vector<std::string>{"w2g32"}, {"w3g64z", "w2g64s"}, {"w2g32+w3@0.25"}, {"Q4_0", "Q5_1"}}) {
    const auto schemes = planned(names);
    options_.layers.steps = 0;
    const auto start = learned(schemes, 1);
    options_.layers.steps = 80;  // few steps are long ones, which undo fine grids
    EXPECT_LT(error_of_first_layer(learned(schemes, 1)), 0.98 * error_of_first_layer(start)) << names[0];
  }
}

// Steps so long that they undo a grid of 8 bits: the start is kept.
TEST_F(SignRoundOfAModel, NeverLosesToTheStart) {
  const auto schemes = planned({"w8g32", "w8row"});
  options_.layers.steps = 0;
  const auto start = learned(schemes, 1);
  options_.layers.steps = 2;
  options_.layers.checks = 1;
  for (const auto& [tensor, weights] : learned(schemes, 1)) EXPECT_TRUE(at::equal(weights, start.at(tensor)));
}

TEST_F(SignRoundOfAModel, GivesTheSameWithAnyNumberOfThreads) {
  const auto schemes = planned({"w2g32", "Q4_1"});
  set_thread_count(1);
  const auto expected = learned(schemes);
  for (const int threads : {2, 3}) {
    set_thread_count(threads);
    for (const auto& [tensor, weights] : learned(schemes))
      EXPECT_TRUE(at::equal(weights, expected.at(tensor))) << tensor << ", " << threads << " threads";
  }
}

// The second run reads the first layer, which it would otherwise learn again from another start: with as many
// steps, from files, in a changed order of events.
TEST_F(SignRoundOfAModel, GoesOnBehindFinishedLayers) {
  const auto schemes = planned({"w3g32m", "Q4_0", "w2g32+w3@0.25", "nf4dq", "w2g64s"});
  const auto expected = learned(schemes);
  options_.layers.cache = directory_ / "cache";
  learned(schemes, 1);
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(options_.layers.cache))
    if (entry.is_regular_file()) files.push_back(entry.path());
  ASSERT_EQ(files.size(), 1u);
  const auto written = std::filesystem::last_write_time(files[0]);
  for (const auto& [tensor, weights] : learned(schemes))
    EXPECT_TRUE(at::equal(weights, expected.at(tensor))) << tensor;
  EXPECT_EQ(std::filesystem::last_write_time(files[0]), written);
  std::filesystem::resize_file(files[0], std::filesystem::file_size(files[0]) - 1);
  EXPECT_NE(error_of([&] { learned(schemes); }).find("damaged"), std::string::npos);
}

TEST_F(SignRoundOfAModel, KeepsTypesWithoutCodesAndRefusesThemAlone) {
  const auto schemes = planned({"nf4", "w2g32"});
  const auto weights = learned(schemes, 1);
  for (const Module& module : model_.modules)
    if (module.layer == 0 && schemes.at(module.tensor).kind == Scheme::Kind::Nf4) {
      const at::Tensor start = weights_at_start(module, schemes.at(module.tensor));
      EXPECT_TRUE(at::equal(weights.at(module.tensor), start));
    }
  EXPECT_EQ(left_by_sign_round(model_, schemes),
            "7 of 14 matrices are in types without codes of their own (nf4)");
  EXPECT_EQ(left_by_sign_round(model_, planned({"IQ2_S", "w2g32"})), "");  // IQ4_NL is what 64 columns get
  EXPECT_NE(error_of([&] {
              left_by_sign_round(model_, planned({"nf4", "F16"}));
            }).find("(F16, nf4)"),
            std::string::npos);
  calibration_ = std::make_shared<Calibration>(make_calibration(random_ids(3, 16), "test"));
  EXPECT_NE(error_of([&] { learned(schemes); }).find("3 windows"), std::string::npos);
}

}  // namespace
}  // namespace strata
