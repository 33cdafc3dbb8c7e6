#include "strata/vision/operators.h"

#include <gtest/gtest.h>

#include <cmath>

#include "strata/vision/tensor_conversion.h"
#include "tests/support/error_of.h"
#include "tests/support/tiny_network.h"

// Against plain loops and hand-computed values; tests/runtimes/onnx_operators.py compares every operator with
// onnxruntime.
namespace strata::vision {
namespace {

struct Spec {
  std::vector<OnnxTensor> constants;
  int64_t opset = 17;
};

// The operator on `inputs`, of which undefined ones are constants of `spec`, in order.
at::Tensor compute(const std::string& op, std::vector<at::Tensor> inputs,
                   std::vector<OnnxAttribute> attributes = {}, const Spec& spec = {}) {
  OnnxModel model;
  model.path = "m.onnx";
  model.opset = spec.opset;
  model.constants = spec.constants;
  OnnxNode node{op, "tested", "", {}, {"y"}, std::move(attributes)};
  size_t next = 0;
  for (at::Tensor& input : inputs) {
    if (input.defined()) {
      node.inputs.push_back("in" + std::to_string(node.inputs.size()));
      continue;
    }
    const OnnxTensor& constant = model.constants.at(next++);
    node.inputs.push_back(constant.name);
    input = to_tensor(constant);
  }
  return make_operator(model, node)(inputs)[0];
}

std::string refusal(const std::string& op, const std::vector<at::Tensor>& inputs,
                    std::vector<OnnxAttribute> attributes = {}, const Spec& spec = {}) {
  return error_of([&] { compute(op, inputs, std::move(attributes), spec); });
}

at::Tensor noise(std::vector<int64_t> shape, uint64_t seed = 1) {
  Random random(seed);
  return at::tensor(random_values(product(shape), random), at::kFloat).reshape(shape);
}

at::Tensor numbers(const std::vector<float>& values, std::vector<int64_t> shape) {
  return at::tensor(values, at::kFloat).reshape(shape);
}

OnnxTensor whole_constant(const std::string& name, const std::vector<int64_t>& values) {
  return onnx_integers(name, OnnxType::Int64, {static_cast<int64_t>(values.size())}, values);
}

struct Geometry {
  std::vector<int64_t> strides, dilations, pads;  // top, left, bottom, right
  int64_t groups;
};

// Sums over the window in double precision, one output at a time.
double convolved(const at::Tensor& image, const at::Tensor& weight, const Geometry& g, int64_t n, int64_t o,
                 int64_t row, int64_t column) {
  const int64_t per_group = weight.size(1), first = o / (weight.size(0) / g.groups) * per_group;
  double sum = 0;
  for (int64_t c = 0; c < per_group; ++c)
    for (int64_t a = 0; a < weight.size(2); ++a)
      for (int64_t b = 0; b < weight.size(3); ++b) {
        const int64_t y = row * g.strides[0] + a * g.dilations[0] - g.pads[0];
        const int64_t x = column * g.strides[1] + b * g.dilations[1] - g.pads[1];
        if (y < 0 || x < 0 || y >= image.size(2) || x >= image.size(3)) continue;
        sum += image[n][first + c][y][x].item<double>() * weight[o][c][a][b].item<double>();
      }
  return sum;
}

TEST(Operators, ConvSumsOverItsWindow) {
  const at::Tensor image = noise({2, 4, 7, 6});
  const Geometry all[] = {{{1, 1}, {1, 1}, {0, 0, 0, 0}, 1},
                          {{2, 1}, {1, 1}, {1, 1, 1, 1}, 2},
                          {{1, 3}, {2, 1}, {0, 2, 1, 0}, 4},
                          {{2, 2}, {1, 2}, {2, 0, 0, 3}, 1}};
  for (const Geometry& g : all) {
    const OnnxTensor weight = onnx_tensor("w", {8, 4 / g.groups, 3, 2}, [&] {
      Random random(4);
      return random_values(8 * 4 / g.groups * 6, random);
    }());
    const OnnxTensor bias = onnx_tensor("b", {8}, {1, 2, 3, 4, 5, 6, 7, 8});
    const at::Tensor output = compute("Conv", {image, {}, {}},
                                      {ints("strides", g.strides), ints("dilations", g.dilations),
                                       ints("pads", g.pads), whole("group", g.groups)},
                                      {{weight, bias}});
    const int64_t height = (7 + g.pads[0] + g.pads[2] - g.dilations[0] * 2 - 1) / g.strides[0] + 1;
    const int64_t width = (6 + g.pads[1] + g.pads[3] - g.dilations[1] - 1) / g.strides[1] + 1;
    ASSERT_EQ(output.sizes(), (std::vector<int64_t>{2, 8, height, width}));
    const at::Tensor w = at::tensor(weight.floats()).reshape(weight.shape);
    for (int64_t n = 0; n < 2; ++n)
      for (int64_t o = 0; o < 8; ++o)
        for (int64_t y = 0; y < height; ++y)
          for (int64_t x = 0; x < width; ++x)
            EXPECT_NEAR(output[n][o][y][x].item<double>(),
                        convolved(image, w, g, n, o, y, x) + static_cast<double>(o + 1), 1e-4);
  }
}

TEST(Operators, PoolsKnowTheirPads) {
  const at::Tensor image = numbers({1, 2, 3, 4, 5, 6, 7, 8, -9}, {1, 1, 3, 3});
  const OnnxAttribute kernel = ints("kernel_shape", {2, 2}), two = ints("strides", {2, 2});
  const auto pool = [&](const char* op, std::vector<OnnxAttribute> attributes) {
    attributes.insert(attributes.end(), {kernel, two});
    return compute(op, {image}, std::move(attributes)).reshape({-1});
  };
  const OnnxAttribute top_left = ints("pads", {1, 1, 0, 0}), counts = whole("count_include_pad", 1);
  EXPECT_TRUE(at::equal(pool("MaxPool", {top_left}), numbers({1, 3, 7, 8}, {4})));
  EXPECT_TRUE(at::equal(pool("MaxPool", {ints("pads", {0, 0, 1, 1})}), numbers({5, 6, 8, -9}, {4})));
  EXPECT_TRUE(at::equal(pool("MaxPool", {whole("ceil_mode", 1)}), numbers({5, 6, 8, -9}, {4})));
  EXPECT_TRUE(at::allclose(pool("AveragePool", {top_left}), numbers({1, 2.5f, 5.5f, 2.5f}, {4})));
  EXPECT_TRUE(
      at::allclose(pool("AveragePool", {top_left, counts}), numbers({0.25f, 1.25f, 2.75f, 2.5f}, {4})));
  EXPECT_TRUE(at::allclose(pool("AveragePool", {}), numbers({3}, {1})));
}

TEST(Operators, Broadcast) {
  const at::Tensor x = noise({2, 3, 4, 5});
  const std::vector<float> three = {1, -2, 4};
  const at::Tensor channels = numbers(three, {3, 1, 1});
  EXPECT_TRUE(at::equal(compute("Mul", {x, {}}, {}, {{onnx_tensor("c", {3, 1, 1}, three)}}), x * channels));
  EXPECT_TRUE(
      at::equal(compute("Sub", {{}, x}, {}, {{onnx_tensor("c", {1, 3, 1, 1}, three)}}), channels - x));
  EXPECT_TRUE(at::equal(compute("Add", {x, {}}, {}, {{onnx_tensor("c", {}, {7})}}), x + 7));
  EXPECT_TRUE(at::equal(compute("Max", {x, -x, x * 2}), at::maximum(at::abs(x), x * 2)));
}

TEST(Operators, ActivationsAsDefined) {
  const at::Tensor x = numbers({-7, -3, -1, 0, 0.5f, 2, 3, 9}, {8});
  for (int64_t i = 0; i < 8; ++i) {
    const double v = x[i].item<double>(), hard = std::min(1.0, std::max(0.0, v / 6 + 0.5));
    const auto at = [&](const char* op, std::vector<OnnxAttribute> attributes = {}) {
      return compute(op, {x}, std::move(attributes))[i].item<double>();
    };
    EXPECT_NEAR(at("Sigmoid"), 1 / (1 + std::exp(-v)), 1e-6);
    EXPECT_NEAR(at("HardSwish"), v * hard, 1e-5);
    EXPECT_NEAR(at("HardSigmoid"), std::min(1.0, std::max(0.0, 0.2 * v + 0.5)), 1e-6);
    EXPECT_NEAR(at("HardSigmoid", {real("alpha", 1.0f / 6)}), hard, 1e-6);
    EXPECT_EQ(at("Relu"), std::max(0.0, v));
  }
  const Spec bounds{{onnx_tensor("low", {}, {-2}), onnx_tensor("high", {}, {2.5f})}};
  EXPECT_TRUE(at::equal(compute("Clip", {x, {}, {}}, {}, bounds), at::clamp(x, -2, 2.5)));
}

TEST(Operators, SoftmaxFlattensBeforeOpset13) {
  const at::Tensor x = noise({2, 3, 4});
  const at::Tensor rows = compute("Softmax", {x}, {}, {{}, 11});
  EXPECT_TRUE(at::allclose(rows.sum({1, 2}), at::ones({2})));
  EXPECT_TRUE(at::allclose(compute("Softmax", {x}).sum(2), at::ones({2, 3})));
}

TEST(Operators, ShapesFollowTheirArguments) {
  const at::Tensor x = noise({2, 3, 4, 5});
  EXPECT_TRUE(at::equal(compute("Reshape", {x, {}}, {}, {{whole_constant("shape", {0, -1, 10})}}),
                        x.reshape({2, 6, 10})));
  EXPECT_TRUE(at::equal(compute("Transpose", {x}), x.permute({3, 2, 1, 0})));
  EXPECT_EQ(compute("Unsqueeze", {x, {}}, {}, {{whole_constant("axes", {-1, 0})}}).sizes(),
            (std::vector<int64_t>{1, 2, 3, 4, 5, 1}));
  EXPECT_EQ(compute("Squeeze", {x.narrow(1, 0, 1), {}}, {}, {{whole_constant("axes", {-3})}}).sizes(),
            (std::vector<int64_t>{2, 4, 5}));
  EXPECT_TRUE(at::equal(compute("Concat", {x, x * 2}, {whole("axis", -3)}), at::cat({x, x * 2}, 1)));
  const at::Tensor padded =
      compute("Pad", {x, {}, {}}, {},
              {{whole_constant("pads", {0, 0, 1, 0, 0, 0, 0, 2}), onnx_tensor("v", {}, {9})}});
  EXPECT_EQ(padded.sizes(), (std::vector<int64_t>{2, 3, 5, 7}));
  EXPECT_TRUE(at::equal(padded.narrow(2, 1, 4).narrow(3, 0, 5), x));
  EXPECT_EQ(padded[1][2][0][3].item<float>(), 9);
  EXPECT_TRUE(at::allclose(compute("ReduceMean", {x}, {ints("axes", {1}), whole("keepdims", 0)}), x.mean(1)));
}

// One sentence that names the file and the node.
TEST(Operators, RefuseWhatTheyCannotDo) {
  const at::Tensor x = noise({2, 3, 4, 5});
  const auto expect = [](const std::string& error, const std::string& part) {
    EXPECT_EQ(error.find("m.onnx: "), 0u) << error;
    EXPECT_NE(error.find("'tested' " + part), std::string::npos) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  };
  const OnnxAttribute kernel = ints("kernel_shape", {2, 2});
  expect(refusal("LSTM", {x}), "is an operator that is not supported");
  expect(refusal("Conv", {x, x}), "has a weight that is computed");
  expect(refusal("Conv", {x, {}}, {}, {{onnx_tensor("w", {2, 3}, std::vector<float>(6))}}),
         "has a weight of 2 dimensions");
  expect(refusal("Conv", {x, {}}, {whole("group", 0)},
                 {{onnx_tensor("w", {2, 3, 1, 1}, std::vector<float>(6))}}),
         "has 0 groups");
  expect(refusal("AveragePool", {x}, {kernel, ints("dilations", {2, 2})}), "is dilated");
  expect(refusal("MaxPool", {x}, {}), "has a window of 0 dimensions");
  expect(refusal("MaxPool", {x}, {kernel, ints("strides", {1, -1})}), "has strides of -1");
  expect(refusal("Squeeze", {x}), "names no axes");
  expect(refusal("Reshape", {x, {}}, {}, {{onnx_tensor("shape", {1}, {2})}}), "has a shape of real numbers");
  expect(refusal("Clip", {x, {}}, {}, {{onnx_tensor("low", {2}, {0, 1})}}), "has a min of 2 values");
  expect(refusal("Pad", {x, {}}, {word("mode", "far")}, {{whole_constant("pads", std::vector<int64_t>(8))}}),
         "has the mode 'far'");
  expect(refusal("Resize", {x}, {word("mode", "lanczos")}), "has the mode 'lanczos'");
  expect(refusal("Resize", {x}, {whole("antialias", 1)}), "smooths as it shrinks");
  expect(refusal("BatchNormalization", {x, x, x, x, x}, {whole("training_mode", 1)}), "is in training mode");
  expect(refusal("Add", {x}), "has 1 inputs where 2 to 2 are expected");
}

}  // namespace
}  // namespace strata::vision
