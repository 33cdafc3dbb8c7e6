#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/vision/hessian.h"
#include "strata/vision/onnx_export.h"
#include "strata/vision/probes.h"
#include "strata/vision/top_k.h"
#include "strata/vision/width_plan.h"
#include "tests/support/error_of.h"
#include "tests/vision/tiny_images.h"

namespace strata::vision {
namespace {

struct Bench {
  explicit Bench(const OnnxModel& network = tiny_network()) : graph(network, at::kCPU) {}

  Graph graph;
  ImageSet images = tiny_images(40);
  QuantizedLayers layers{graph, images, {}};
};

TEST(WeightCodes, StayInRangeAndLoseLessWithMoreBits) {
  const Graph graph(tiny_network(), at::kCPU);
  for (const Layer& layer : graph.layers()) {
    double before = 1e30;
    for (int bits = 2; bits <= 8; ++bits) {
      const WeightCodes codes = quantize_weight(layer, bits, RangeRule::SquaredError);
      const at::Tensor restored = codes.dequantize(layer.output_axis);
      EXPECT_GE(codes.codes.min().item<int>(), -(1 << (bits - 1)));
      EXPECT_LT(codes.codes.max().item<int>(), 1 << (bits - 1));
      EXPECT_NEAR((restored - layer.weight).pow(2).sum().item<double>(), codes.squared_error, 1e-4);
      EXPECT_LE(codes.squared_error, quantize_weight(layer, bits, RangeRule::MinMax).squared_error + 1e-6);
      EXPECT_LT(codes.squared_error, before);
      before = codes.squared_error;
    }
    // The largest value is met by half a step.
    const WeightCodes eight = quantize_weight(layer, 8, RangeRule::MinMax);
    const float step = *std::max_element(eight.scales.begin(), eight.scales.end());
    EXPECT_LE((eight.dequantize(layer.output_axis) - layer.weight).abs().max().item<float>(), step * 0.5001f);
  }
}

TEST(ActivationCodes, RoundToTheGridAndKeepZero) {
  InputStatistics statistics;
  statistics.lowest = -1.3f;
  statistics.highest = 4.1f;
  for (int i = 0; i <= 1000; ++i) statistics.sample.push_back(-1.3f + 5.4f * static_cast<float>(i) / 1000);
  for (int bits = 2; bits <= 8; ++bits)
    for (RangeRule rule : {RangeRule::MinMax, RangeRule::Percentile, RangeRule::SquaredError}) {
      const ActivationCode code = choose_code(statistics, bits, rule, 99);
      const at::Tensor values = at::tensor(std::vector<float>{0, -100, 100, 0.7f});
      const at::Tensor rounded = code.simulate(values);
      EXPECT_EQ(rounded[0].item<float>(), 0);
      EXPECT_FLOAT_EQ(rounded[1].item<float>(), code.lowest());
      EXPECT_FLOAT_EQ(rounded[2].item<float>(), code.highest());
      const float steps = rounded[3].item<float>() / code.scale;
      EXPECT_NEAR(steps, std::nearbyint(steps), 1e-4);
      EXPECT_LE(std::abs(rounded[3].item<float>() - 0.7f), code.scale * 0.5001f);
    }
  EXPECT_LE(squared_error(statistics, choose_code(statistics, 3, RangeRule::SquaredError, 99)),
            squared_error(statistics, choose_code(statistics, 3, RangeRule::MinMax, 99)));
}

// Without padding the mean of a layer's outputs is a linear function of its inputs' channel means.
TEST(BiasCorrection, RestoresTheMeanOutputs) {
  Bench bench;
  for (size_t l : {size_t{2}, size_t{3}}) {  // the 1 x 1 convolution and the classifier
    Overrides changed(4);
    changed[l].weight = bench.layers.layer(l, {2, 8}).weight;
    const auto mean_output = [&](const Overrides& overrides) {
      at::Tensor mean;
      Execution(bench.graph, {bench.images.pixels})
          .finish(overrides, [&](size_t n, const at::Tensor& output) {
            if (n == bench.graph.layers()[l].node)
              mean = output.dim() == 4 ? output.mean({0, 2, 3}) : output.mean(0);
          });
      return mean;
    };
    const at::Tensor original = mean_output({});
    EXPECT_FALSE(at::allclose(mean_output(changed), original, 0, 1e-3));
    changed[l].bias = bench.layers.bias(l, 2);
    EXPECT_TRUE(at::allclose(mean_output(changed), original, 1e-3, 1e-4));
  }
}

// A softmax regression: the trace over weights is E[sum_c p (1 - p) |x|^2], over inputs E[sum of W' (P - p
// p') W].
TEST(Hessian, OfASoftmaxRegression) {
  Random random(2);
  OnnxModel model;
  model.path = "linear.onnx";
  model.inputs = {value("image", {-1, 1, 2, 2})};
  model.outputs = {value("logits", {-1, 3})};
  add_constant(model, "w", {3, 4}, random, 0.5);
  model.nodes = {{"Flatten", "flatten", "", {"image"}, {"x"}, {}},
                 {"Gemm", "gemm", "", {"x", "w"}, {"logits"}, {whole("transB", 1)}}};
  const Graph graph(model, at::kCPU);
  ImageSet images;
  images.source = "noise";
  images.pixels = at::tensor(random_values(20 * 4, random), at::kFloat).reshape({20, 1, 2, 2});
  for (int64_t i = 0; i < 20; ++i) images.labels.push_back(i % 3);
  const at::Tensor x = images.pixels.flatten(1).to(at::kDouble), w = graph.layers()[0].weight.to(at::kDouble);
  const at::Tensor p = at::softmax(at::mm(x, w.t()), 1);
  const at::Tensor of_weights = ((p * (1 - p)).sum(1) * x.pow(2).sum(1)).mean();
  const at::Tensor of_inputs = (at::mm(p, w.pow(2)).sum(1) - at::mm(p, w).pow(2).sum(1)).mean();
  const HessianTraces traces = estimate_traces(graph, images, 4000, 3);
  EXPECT_NEAR(traces.weights[0], of_weights.item<double>(), 0.06 * of_weights.item<double>());
  EXPECT_NEAR(traces.inputs[0], of_inputs.item<double>(), 0.08 * of_inputs.item<double>());
}

InputStatistics statistics_of(std::vector<float> sample) {
  InputStatistics statistics;
  std::sort(sample.begin(), sample.end());
  statistics.lowest = sample.front(), statistics.highest = sample.back();
  statistics.sample = std::move(sample);
  return statistics;
}

// Two bits over 4 x 3 values that each have bins of their own, by hand: in each code's three bins the counts
// 1, 2 and 3 become 2, 2 and 2.
TEST(ActivationCodes, DivergenceIsThatOfTheHistograms) {
  std::vector<float> sample;
  for (int level = 0; level < 4; ++level)
    for (int place = 0; place < 3; ++place)
      for (int times = 0; times <= place; ++times)
        sample.push_back(static_cast<float>(level) + 0.2f * static_cast<float>(place - 1));
  const double expected = (1 * std::log(1 / 2.0) + 3 * std::log(3 / 2.0)) / 6;
  ActivationCode code;
  code.bits = 2;
  EXPECT_NEAR(code_divergence(statistics_of(sample), code), expected, 1e-6);
  code.bits = 1;  // the upper half is cut off, and lies where code 1 ends
  EXPECT_GT(code_divergence(statistics_of(sample), code), 2 * expected);
}

// A few far outliers among many values: both rules cut them off at 4 bits, and the chosen range is the best
// of the grid.
TEST(ActivationCodes, DivergenceChoosesTheBestOfItsGrid) {
  Random random(9);
  std::vector<float> sample;
  for (int i = 0; i < 20000; ++i) sample.push_back(static_cast<float>(std::abs(random.normal())));
  for (int i = 0; i < 5; ++i) sample.push_back(50.0f);
  const InputStatistics statistics = statistics_of(sample);
  const ActivationCode chosen = choose_code(statistics, 4, RangeRule::Divergence, 99);
  EXPECT_LT(chosen.highest(), 10);
  double least = 1e30;
  for (int r = 1; r <= 50; ++r) {
    const ActivationCode code{4, statistics.highest * static_cast<float>(r) / 50 / 15, 0};
    least = std::min(least, code_divergence(statistics, code));
  }
  EXPECT_NEAR(code_divergence(statistics, chosen), least, 1e-6);
}

// Every probe's outputs against a run from the start: two widths of weights and of activations.
void expect_probes_like_plain_runs(Bench& bench, ObserverChoice observers) {
  const size_t layers = bench.graph.layers().size();
  ProbeOptions options;
  options.bits = {2, 5};
  options.directions = 8;
  options.inputs = true;
  options.observers = observers;
  const ProbeResults results = run_probes(bench.layers, bench.images, options);
  ASSERT_EQ(results.probes.size(), 4 * (layers - 2));
  ASSERT_FALSE(results.observers.empty());
  for (const Probe& probe : results.probes) {
    std::vector<Widths> plan(layers);
    (probe.activation ? plan[probe.layer].activation : plan[probe.layer].weight) = probe.bits;
    const at::Tensor expected = compute_logits(bench.graph, bench.images, bench.layers.overrides(plan));
    EXPECT_TRUE(at::allclose(probe.logits, expected, 1e-5, 1e-5));
    EXPECT_FALSE(at::allclose(probe.logits, results.reference_logits, 1e-5, 1e-5)) << probe.layer;
    EXPECT_FALSE(std::isnan(probe.flow.label.back()));
    EXPECT_FALSE(std::isnan(probe.flow.input.back()));
  }
}

TEST(Probes, EqualPlainRuns) {
  for (const int threads : {1, 3}) {  // 40 images are three batches
    set_thread_count(threads);
    for (const OnnxModel& network : {tiny_network(), tiny_network_with_shortcut()}) {
      Bench bench(network);
      for (const ObserverChoice observers : {ObserverChoice::Blocks, ObserverChoice::Layers})
        expect_probes_like_plain_runs(bench, observers);
    }
  }
  set_thread_count(0);
}

// Calibration, simulation and information, to the last bit.
TEST(Probes, AreTheSameForAnyNumberOfThreads) {
  const auto results = [](int threads) {
    set_thread_count(threads);
    Bench bench(tiny_network_with_shortcut());
    ProbeOptions options;
    options.bits = {3};
    options.directions = 8;
    return run_probes(bench.layers, bench.images, options);
  };
  const ProbeResults one = results(1), three = results(3);
  set_thread_count(0);
  for (size_t p = 0; p < one.probes.size(); ++p) {
    EXPECT_TRUE(at::equal(one.probes[p].logits, three.probes[p].logits)) << p;
    EXPECT_EQ(one.probes[p].noise, three.probes[p].noise) << p;
    EXPECT_EQ(one.probes[p].flow.label.back(), three.probes[p].flow.label.back()) << p;
  }
}

TEST(Probes, NeedEnoughImages) {
  Bench bench;
  const std::string error = error_of([&] { run_probes(bench.layers, tiny_images(4), {}); });
  EXPECT_NE(error.find("tiny images has 4 images"), std::string::npos) << error;
}

WidthCosts made_up_costs(size_t layers, uint64_t seed) {
  Random random(seed);
  WidthCosts costs;
  costs.method = "made up";
  for (size_t l = 1; l + 1 < layers; ++l) {
    LayerCosts one{l, {}, {}};
    for (int bits = 2; bits <= 8; ++bits) {
      one.weights.push_back(bits == 8 ? 0 : random.uniform() * std::pow(0.4, bits));
      one.activations.push_back(bits == 8 ? 0 : random.uniform() * std::pow(0.4, bits));
    }
    costs.layers.push_back(one);
  }
  return costs;
}

// Against all 49 x 49 pairs of two free layers.
TEST(WidthPlan, IsTheBestOfAll) {
  const std::vector<LayerSize> sizes = {
      {"a", 100, 4, 5000}, {"b", 900, 8, 20000}, {"c", 400, 8, 70000}, {"d", 50, 5, 50}};
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const WidthCosts costs = made_up_costs(4, seed);
    WidthBudget budget;
    budget.compression = 7;
    budget.bitops_ratio = 1.0 / 30;
    const WidthPlan plan = allocate_widths(sizes, costs, budget, {});
    EXPECT_GE(plan.compression, 7);
    EXPECT_LE(plan.bitops_ratio, 1.0 / 30);
    EXPECT_EQ(plan.layers[0], (Widths{8, 8}));
    EXPECT_EQ(plan.layers[3], (Widths{8, 8}));
    double weight_mean = 0, activation_mean = 0;
    for (const LayerCosts& layer : costs.layers)
      for (size_t b = 0; b < 7; ++b)
        weight_mean += layer.weights[b] / 14, activation_mean += layer.activations[b] / 14;
    const auto cost_of_plan = [&](Widths b, Widths c) {
      double cost = 0;
      const Widths both[] = {b, c};
      for (size_t l = 0; l < 2; ++l)
        cost += costs.layers[l].weights[static_cast<size_t>(both[l].weight - 2)] / weight_mean +
                costs.layers[l].activations[static_cast<size_t>(both[l].activation - 2)] / activation_mean;
      return cost;
    };
    double best = 1e30;
    WidthPlan candidate = plan;
    for (int i = 0; i < 49 * 49; ++i) {
      candidate.layers[1] = {2 + i % 7, 2 + i / 7 % 7};
      candidate.layers[2] = {2 + i / 49 % 7, 2 + i / 343};
      candidate.sum_up(sizes);
      if (candidate.compression >= 7 && candidate.bitops_ratio <= 1.0 / 30)
        best = std::min(best, cost_of_plan(candidate.layers[1], candidate.layers[2]));
    }
    EXPECT_NEAR(cost_of_plan(plan.layers[1], plan.layers[2]), best, 2e-4 * best) << seed;
  }
}

TEST(WidthPlan, UniformMeetsTheBudgetAndRefusesTheImpossible) {
  const std::vector<LayerSize> sizes = {
      {"a", 100, 4, 5000}, {"b", 900, 8, 20000}, {"c", 400, 8, 70000}, {"d", 50, 5, 50}};
  WidthBudget budget;
  budget.compression = 8;
  const WidthPlan plan = uniform_widths(sizes, {1, 2}, budget);
  EXPECT_GE(plan.compression, 8);
  EXPECT_EQ(plan.layers[1].activation, 8);
  budget.compression = 14;
  const std::string error = error_of([&] { allocate_widths(sizes, made_up_costs(4, 1), budget, {}); });
  EXPECT_NE(error.find("14x cannot be met"), std::string::npos) << error;
}

// The file's network, read back and run with its QuantizeLinear nodes, is the simulated one.
TEST(OnnxExport, ReadsBackAsWhatWasSimulated) {
  Bench bench;
  for (const bool int4 : {true, false}) {
    const std::vector<Widths> plan = {{8, 8}, {3, 5}, {6, 4}, {8, 8}};
    const Graph written(quantized_model(bench.layers, plan, {int4}), at::kCPU);
    EXPECT_EQ(written.model().opset, int4 ? 21 : 17);
    const at::Tensor simulated = compute_logits(bench.graph, bench.images, bench.layers.overrides(plan));
    const at::Tensor read = compute_logits(written, bench.images);
    EXPECT_TRUE(at::allclose(read, simulated, 1e-3, 1e-3)) << (read - simulated).abs().max();
    EXPECT_FALSE(at::allclose(simulated, compute_logits(bench.graph, bench.images), 1e-3, 1e-3));
  }
}

}  // namespace
}  // namespace strata::vision
