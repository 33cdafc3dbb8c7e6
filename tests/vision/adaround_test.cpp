#include "strata/vision/adaround.h"

#include <gtest/gtest.h>

#include "strata/vision/onnx_export.h"
#include "strata/vision/quantized_layers.h"
#include "strata/vision/top_k.h"
#include "tests/vision/tiny_images.h"

namespace strata::vision {
namespace {

// One layer of tiny_network with what the images put into it.
struct LayerCase {
  LayerCase(size_t index, int bits)
      : layer(graph.layers()[index]), nearest(quantize_weight(layer, bits, RangeRule::SquaredError)) {
    Overrides overrides(graph.layers().size());
    overrides[index].input = [&](const at::Tensor& values) { return input = values; };
    Execution(graph, {tiny_images(8).pixels}).finish(overrides);
    moments.add(graph, layer, input, 1 << 20);
  }

  // Of the layer with these weights, in double precision.
  at::Tensor output(const at::Tensor& weight) const {
    const at::Tensor x = input.to(at::kDouble), w = weight.to(at::kDouble);
    if (w.dim() == 2) return at::mm(x, w.t());
    const int64_t pad = w.size(2) / 2;
    return at::conv2d(x, w, {}, at::IntArrayRef({1, 1}), at::IntArrayRef({pad, pad}), at::IntArrayRef({1, 1}),
                      layer.groups);
  }

  // Mean over places of the squared error of all outputs there.
  double error(const WeightCodes& codes) const {
    const at::Tensor lost = output(layer.weight) - output(codes.dequantize(layer.output_axis));
    return lost.square().sum().item<double>() / static_cast<double>(lost.numel() / layer.outputs);
  }

  Graph graph{tiny_network(), at::kCPU};
  const Layer& layer;
  WeightCodes nearest;
  at::Tensor input;
  PatchMoments moments;
};

TEST(AdaRound, KnowsTheErrorFromMoments) {
  for (size_t l = 0; l < 4; ++l) {  // dense, depthwise, of one place, product
    const LayerCase one(l, 3);
    EXPECT_NEAR(output_error(one.layer, one.nearest, one.moments), one.error(one.nearest),
                1e-4 * one.error(one.nearest))
        << l;
  }
}

// Against all 2^9 ways to round a depthwise filter, for each filter by itself.
TEST(AdaRound, ComesCloseToTheBestOfAllRoundings) {
  const LayerCase one(1, 3);
  const WeightCodes learned = adaround(one.layer, one.nearest, one.moments, {});
  double best = 0, nearest = 0, found = 0;
  for (int64_t filter = 0; filter < 6; ++filter) {
    const float scale = one.nearest.scales[static_cast<size_t>(filter)];
    const at::Tensor weight = one.layer.weight[filter].reshape({9}).to(at::kDouble);
    const at::Tensor moments = one.moments.sums[filter].to(at::kDouble) / one.moments.count;
    const auto error = [&](const at::Tensor& codes) {
      const at::Tensor lost = weight - codes.to(at::kDouble) * static_cast<double>(scale);
      return at::dot(lost, at::mv(moments, lost)).item<double>();
    };
    double least = 1e30;
    for (int ways = 0; ways < 512; ++ways) {
      at::Tensor codes = (weight / static_cast<double>(scale)).floor();
      for (int i = 0; i < 9; ++i) codes[i] += (ways >> i) & 1;
      least = std::min(least, error(codes.clamp(-4, 3)));
    }
    best += least;
    nearest += error(one.nearest.codes[filter].reshape({9}));
    found += error(learned.codes[filter].reshape({9}));
  }
  EXPECT_LT(best, 0.95 * nearest);
  EXPECT_LT(found, best + 0.1 * (nearest - best)) << best << " " << found << " " << nearest;
}

TEST(AdaRound, LearnsEveryKindOfLayer) {
  for (size_t l = 0; l < 4; ++l) {
    const LayerCase one(l, 2);
    const WeightCodes learned = adaround(one.layer, one.nearest, one.moments, {});
    EXPECT_EQ(learned.codes.sizes(), one.layer.weight.sizes());
    EXPECT_LE(one.error(learned), one.error(one.nearest)) << l;
    // A code is that below or above the weight.
    const at::Tensor steps = at::div(
        one.layer.weight, WeightCodes{2, at::ones_like(one.nearest.codes), one.nearest.scales}.dequantize(
                              one.layer.output_axis));
    const at::Tensor below = steps.floor().clamp(-2, 1), above = (steps.floor() + 1).clamp(-2, 1);
    EXPECT_TRUE(at::logical_or(learned.codes == below, learned.codes == above).all().item<bool>());
  }
}

// What was made of layers before is made anew, and the file holds what was learned.
TEST(AdaRound, IsWhatRunsAndWhatIsWritten) {
  const Graph graph(tiny_network(), at::kCPU);
  const ImageSet images = tiny_images(64);
  const std::vector<Widths> plan(4, {3, 8});
  LayerQuantizationOptions options;
  options.rounding = WeightRounding::AdaRound;
  QuantizedLayers layers(graph, images, options);
  const at::Tensor nearest = compute_logits(graph, images, layers.overrides(plan));
  const at::Tensor codes = layers.weight(1, 3).codes.clone();
  layers.learn_rounding(plan, images);
  EXPECT_FALSE(at::equal(codes, layers.weight(1, 3).codes));
  const at::Tensor learned = compute_logits(graph, images, layers.overrides(plan));
  EXPECT_FALSE(at::allclose(learned, nearest, 1e-3, 1e-3));
  const Graph written(quantized_model(layers, plan, {}), at::kCPU);
  EXPECT_TRUE(at::allclose(compute_logits(written, images), learned, 1e-3, 1e-3));
}

}  // namespace
}  // namespace strata::vision
