#include "strata/vision/integer_convolution.h"

#include <gtest/gtest.h>

#include "tests/vision/tiny_images.h"

namespace strata::vision {
namespace {

struct ConvolutionCase {
  int64_t images, channels, outputs, height, width, kernel, stride, dilation;
  std::vector<int64_t> pads;
  int bits, zero_point;
  bool bias;
};

// Against LibTorch's convolution of the rounded values in double precision.
TEST(IntegerConvolution, IsTheConvolutionOfRoundedValues) {
  if (!multiplies_bytes()) GTEST_SKIP() << "this processor does not multiply bytes";
  Random random(3);
  const ConvolutionCase cases[] = {{2, 3, 5, 9, 7, 3, 1, 1, {1, 1, 1, 1}, 8, 128, true},
                                   {1, 5, 16, 6, 6, 3, 2, 1, {0, 1, 2, 1}, 8, 0, true},
                                   {3, 24, 17, 4, 4, 1, 1, 1, {0, 0, 0, 0}, 4, 7, false},
                                   {2, 64, 70, 5, 3, 3, 1, 2, {2, 2, 2, 2}, 8, 255, true},
                                   {1, 8, 33, 8, 8, 2, 2, 1, {0, 0, 0, 0}, 2, 1, false}};
  for (const ConvolutionCase& c : cases) {
    const auto tensor = [&](std::vector<int64_t> shape, double scale) {
      return at::tensor(random_values(product(shape), random, scale), at::kFloat).reshape(shape);
    };
    const at::Tensor maps = tensor({c.images, c.channels, c.height, c.width}, 1);
    const at::Tensor bias = c.bias ? tensor({c.outputs}, 1) : at::Tensor();
    Layer layer;
    layer.weight = tensor({c.outputs, c.channels, c.kernel, c.kernel}, 1);
    const WeightCodes weights = quantize_weight(layer, 8, RangeRule::MinMax);
    const ActivationCode code{c.bits, 3.0f / static_cast<float>(1 << c.bits), c.zero_point};
    const Window window{{c.kernel, c.kernel}, {c.stride, c.stride}, {c.dilation, c.dilation}, c.pads};
    const at::Tensor found = integer_convolution(maps, code, pack_weights(weights), bias, window);
    const at::Tensor rounded = pad_maps(code.simulate(maps), c.pads, 0);
    const at::Tensor expected =
        at::conv2d(rounded.to(at::kDouble), weights.dequantize(0).to(at::kDouble),
                   c.bias ? bias.to(at::kDouble) : at::Tensor(), at::IntArrayRef({c.stride, c.stride}),
                   at::IntArrayRef({0, 0}), at::IntArrayRef({c.dilation, c.dilation}));
    ASSERT_EQ(found.sizes(), expected.sizes());
    const double largest = expected.abs().max().item<double>();
    EXPECT_LT((found - expected).abs().max().item<double>(), 1e-6 * largest) << c.channels << " channels";
  }
}

}  // namespace
}  // namespace strata::vision
