#include "strata/vision/graph.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"
#include "strata/vision/equalize.h"
#include "strata/vision/simplify.h"
#include "strata/vision/top_k.h"
#include "tests/support/error_of.h"
#include "tests/vision/tiny_images.h"

namespace strata::vision {
namespace {

std::string load_error(OnnxModel model) {
  return error_of([&] { Graph(std::move(model), at::kCPU); });
}

TEST(Graph, FindsLayersAndCountsMultiplications) {
  const Graph graph(tiny_network(), at::kCPU);
  ASSERT_EQ(graph.layers().size(), 4u);
  EXPECT_EQ(graph.layers()[1].tensor, "depthwise.weight");
  EXPECT_EQ(graph.layers()[1].groups, 6);
  const std::vector<int64_t> expected = {64 * 6 * 27, 64 * 6 * 9, 64 * 36, 30};
  EXPECT_EQ(count_multiplications(graph, {at::zeros({1, 3, 8, 8})}), expected);
}

// What run_before leaves begins with the change, and gives what a run from the start gives.
void expect_continuing_from_changes(const Graph& graph) {
  const at::Tensor images = tiny_images(3).pixels;
  for (size_t l = 0; l < graph.layers().size(); ++l) {
    Overrides overrides(graph.layers().size());
    overrides[l].weight = graph.layers()[l].weight * 0.5;
    overrides[l].bias = graph.layers()[l].bias + 1;
    overrides[l].input = [](const at::Tensor& input) { return input * 2; };
    const at::Tensor whole_run = Execution(graph, {images}).finish(overrides)[0];
    Execution reference(graph, {images});
    size_t before = 0, after = 0;
    reference.run_before(graph.layers()[l].node, {}, [&](size_t, const at::Tensor&) { ++before; });
    Execution probe = reference;
    EXPECT_TRUE(at::equal(probe.finish(overrides, [&](size_t, const at::Tensor&) { ++after; })[0], whole_run))
        << l;
    EXPECT_EQ(before + after, graph.nodes().size());
    EXPECT_EQ(before, graph.layers()[l].node);
    EXPECT_FALSE(at::allclose(reference.finish()[0], whole_run)) << "the change did nothing";
  }
}

TEST(Graph, ContinuesFromAChange) {
  expect_continuing_from_changes(Graph(tiny_network(), at::kCPU));
  expect_continuing_from_changes(Graph(tiny_network_with_shortcut(), at::kCPU));
}

// Operators write over what nobody else reads; what others read stays: x + relu(x) + clip(x), with relu(x) an
// output, too, run twice from the same place.
TEST(Graph, KeepsWhatIsStillNeeded) {
  Random random(5);
  OnnxModel model = tiny_network();
  model.nodes.clear();
  model.outputs = {value("r", {-1, 6, 8, 8}), value("sum", {-1, 6, 8, 8})};
  add_constant(model, "w", {6, 3, 1, 1}, random);
  model.nodes = {{"Conv", "conv", "", {"image", "w"}, {"x"}, {}},
                 {"Relu", "relu", "", {"x"}, {"r"}, {}},
                 {"Clip", "clip", "", {"x"}, {"c"}, {real("min", -0.2f), real("max", 0.3f)}},
                 {"Add", "first", "", {"r", "c"}, {"s"}, {}},
                 {"Add", "second", "", {"s", "x"}, {"sum"}, {}}};
  model.opset = 10;
  model.inputs[0].name = "image";
  const Graph graph(model, at::kCPU);
  const at::Tensor images = tiny_images(3).pixels.to(at::kFloat);
  const at::Tensor x = at::conv2d(images, graph.layers()[0].weight),
                   sum = at::relu(x) + at::clamp(x, -0.2, 0.3) + x;
  const c10::InferenceMode inference;
  Execution start(graph, {images});
  start.run_before(1);
  for (int run = 0; run < 2; ++run) {
    Execution execution = start;
    const Tensors outputs = execution.finish();
    EXPECT_TRUE(at::allclose(outputs[0], at::relu(x), 1e-5, 1e-6));
    EXPECT_TRUE(at::allclose(outputs[1], sum, 1e-5, 1e-6));
  }
}

// A view in which values stand for several: nobody else holds it, and it cannot be written over.
TEST(Graph, DoesNotWriteOverAViewThatRepeatsItsValues) {
  Random random(6);
  OnnxModel model = tiny_network();
  model.nodes.clear();
  model.outputs = {value("product", {-1, 6, 8, 8})};
  add_constant(model, "w", {6, 3, 1, 1}, random);
  model.constants.push_back(onnx_integers("shape", OnnxType::Int64, {4}, {1, 6, 8, 8}));
  model.nodes = {{"Conv", "conv", "", {"image", "w"}, {"x"}, {}},
                 {"GlobalAveragePool", "pool", "", {"x"}, {"p"}, {}},
                 {"Sigmoid", "gate", "", {"p"}, {"g"}, {}},
                 {"Expand", "expand", "", {"g", "shape"}, {"e"}, {}},
                 {"Mul", "mul", "", {"e", "x"}, {"product"}, {}}};
  model.inputs[0].name = "image";
  const Graph graph(model, at::kCPU);
  const at::Tensor images = tiny_images(2).pixels.to(at::kFloat);
  const at::Tensor x = at::conv2d(images, graph.layers()[0].weight);
  const c10::InferenceMode inference;
  EXPECT_TRUE(at::allclose(Execution(graph, {images}).finish()[0], x * at::sigmoid(x.mean({2, 3}, true)),
                           1e-5, 1e-6));
}

TEST(Graph, ReplacesOutputs) {
  const Graph graph(tiny_network(), at::kCPU);
  Overrides overrides(4);
  overrides[3].output = [](const at::Tensor& output) { return output + 5; };
  const at::Tensor images = tiny_images(2).pixels;
  EXPECT_TRUE(at::allclose(Execution(graph, {images}).finish(overrides)[0],
                           Execution(graph, {images}).finish()[0] + 5));
}

TEST(Simplify, FoldsBatchNormalizationAndRemovesIdentities) {
  Random random(4);
  OnnxModel model = tiny_network();
  const at::Tensor images = tiny_images(4).pixels;
  add_constant(model, "scale", {6}, random);
  add_constant(model, "shift", {6}, random);
  add_constant(model, "mean", {6}, random);
  model.constants.push_back(onnx_tensor("variance", {6}, {0.5f, 1, 2, 3, 0.1f, 0.9f}));
  // stem -> Identity -> BatchNormalization -> relu; and one that cannot be folded, behind the pooling.
  model.nodes[1].inputs = {"n"};
  model.nodes[7].inputs = {"q"};
  model.nodes.insert(model.nodes.begin() + 1, {"Identity", "id", "", {"a"}, {"i"}, {}});
  model.nodes.insert(model.nodes.begin() + 2, {"BatchNormalization",
                                               "bn",
                                               "",
                                               {"i", "scale", "shift", "mean", "variance"},
                                               {"n"},
                                               {real("epsilon", 1e-3f)}});
  model.nodes.insert(
      model.nodes.begin() + 9,
      {"BatchNormalization", "bn2", "", {"g", "scale", "shift", "mean", "variance"}, {"q"}, {}});
  const Graph graph(model, at::kCPU);
  EXPECT_EQ(graph.nodes().size(), tiny_network().nodes.size() + 1);
  size_t normalizations = 0;
  for (const OnnxNode& node : graph.model().nodes) normalizations += node.op_type == "BatchNormalization";
  EXPECT_EQ(normalizations, 1u);

  const auto constant = [&](const char* name) {
    return at::tensor(model.constant(name)->floats()).to(at::kDouble);
  };
  const auto column = [](const at::Tensor& t) { return t.reshape({1, -1, 1, 1}); };
  const auto normalize = [&](const at::Tensor& x, double epsilon) {
    return (x - column(constant("mean"))) / at::sqrt(column(constant("variance")) + epsilon) *
               column(constant("scale")) +
           column(constant("shift"));
  };
  const auto weight = [&](const char* name) {
    return at::tensor(model.constant(name)->floats()).reshape(model.constant(name)->shape).to(at::kDouble);
  };
  const at::Tensor stem =
      at::conv2d(images.to(at::kDouble), weight("stem.weight"), weight("stem.bias"), 1, 1);
  const at::Tensor b = at::relu(normalize(stem, 1e-3));
  const at::Tensor d =
      at::clamp(at::conv2d(b, weight("depthwise.weight"), weight("depthwise.bias"), 1, 1, 1, 6), 0, 6);
  const at::Tensor f = at::conv2d(d, weight("project.weight"), weight("project.bias")) + b;
  const at::Tensor g = normalize(f.mean({2, 3}, true), 1e-5).flatten(1);
  const at::Tensor expected = at::linear(g, weight("classifier.weight"), weight("classifier.bias"));
  EXPECT_TRUE(at::allclose(run(model, images).to(at::kDouble), expected, 1e-4, 1e-4));
}

TEST(Equalize, KeepsTheFunctionAndEqualizesRanges) {
  OnnxModel model = tiny_network();
  // Make the ranges of depthwise's channels very different.
  OnnxTensor& weight = *model.constant("depthwise.weight");
  std::vector<float> values = weight.floats();
  for (size_t i = 0; i < values.size(); ++i) values[i] *= std::pow(4.0f, static_cast<float>(i / 9) - 3);
  weight = onnx_tensor(weight.name, weight.shape, values);
  const at::Tensor images = tiny_images(4).pixels * 3;
  const at::Tensor before = run(model, images);
  simplify(model);
  OnnxModel equalized = model;
  EXPECT_EQ(equalize(equalized), 1);  // depthwise and project; the stem feeds the addition, too
  EXPECT_TRUE(at::allclose(run(equalized, images), before, 1e-3, 1e-3));
  const std::vector<float> first = equalized.constant("depthwise.weight")->floats(),
                           second = equalized.constant("project.weight")->floats();
  for (size_t c = 0; c < 6; ++c) {
    float r1 = 0, r2 = 0;
    for (size_t i = 0; i < 9; ++i) r1 = std::max(r1, std::abs(first[c * 9 + i]));
    for (size_t o = 0; o < 6; ++o) r2 = std::max(r2, std::abs(second[o * 6 + c]));
    EXPECT_NEAR(r1 / r2, 1, 1e-2) << c;
  }
}

TEST(GraphRefuses, WhatItDoesNotKnow) {
  OnnxModel model = tiny_network();
  model.nodes[1].op_type = "Einsum";
  EXPECT_NE(load_error(model).find("Einsum 'relu' is an operator that is not supported"), std::string::npos)
      << load_error(model);
}

TEST(GraphRefuses, WeightsAsInputs) {
  OnnxModel model = tiny_network();
  model.inputs.push_back(value("stem.weight", {6, 3, 3, 3}));
  model.constants.erase(model.constants.begin());
  EXPECT_NE(load_error(model).find("Conv 'stem' takes its weight from the model's input 'stem.weight'"),
            std::string::npos)
      << load_error(model);
}

// LibTorch throws several kinds of exceptions; each becomes one sentence.
TEST(GraphRefuses, ShapesThatCannotBe) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{-1, 7}, {-1, -1}, {0, -5}, {0, 0, 0, 0, 0, 1}}) {
    OnnxModel model = tiny_network();
    model.constants.push_back(
        onnx_integers("shape", OnnxType::Int64, {static_cast<int64_t>(shape.size())}, shape));
    model.nodes[7] = {"Reshape", "reshape", "", {"g", "shape"}, {"h"}, {}};
    const Graph graph(model, at::kCPU);
    const std::string error = error_of([&] { Execution(graph, {at::zeros({2, 3, 8, 8})}).finish(); });
    EXPECT_EQ(error.find("tiny.onnx: Reshape 'reshape' cannot be computed on inputs of 2x6x1x1"), 0u)
        << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
}

TEST(GraphRefuses, ShapesThatDoNotFit) {
  const Graph graph(tiny_network(), at::kCPU);
  const std::string error = error_of([&] { Execution(graph, {at::zeros({2, 4, 8, 8})}).finish(); });
  EXPECT_NE(error.find("Conv 'stem' cannot be computed on inputs of 2x4x8x8"), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

TEST(GraphRefuses, HostileAttributes) {
  const auto with = [](size_t node, OnnxAttribute attribute) {
    OnnxModel model = tiny_network();
    auto& attributes = model.nodes[node].attributes;
    for (size_t a = 0; a < attributes.size(); ++a)
      if (attributes[a].name == attribute.name)
        attributes.erase(attributes.begin() + static_cast<std::ptrdiff_t>(a--));
    attributes.push_back(std::move(attribute));
    return load_error(model);
  };
  EXPECT_NE(with(0, ints("strides", {0, 1})).find("strides of 0"), std::string::npos);
  EXPECT_NE(with(0, ints("pads", {1, 1})).find("2 pads"), std::string::npos) << with(0, ints("pads", {1, 1}));
  EXPECT_NE(with(0, ints("kernel_shape", {5, 5})).find("kernel_shape"), std::string::npos);
  EXPECT_NE(with(0, ints("dilations", {1, int64_t{1} << 60})).find("dilations of"), std::string::npos);
  EXPECT_NE(with(2, whole("group", 4)).find("4 groups"), std::string::npos);
  EXPECT_NE(with(0, word("auto_pad", "SOMEHOW")).find("SOMEHOW"), std::string::npos);
}

TEST(GraphRefuses, LabelsOutOfRange) {
  const Graph graph(tiny_network(), at::kCPU);
  ImageSet images = tiny_images(6);
  images.labels[4] = 5;
  const std::string error = error_of([&] { evaluate(graph, images); });
  EXPECT_NE(error.find("tiny images: image 4 has the label 5"), std::string::npos) << error;
}

TEST(TopK, CountsRanksAndRefusesNaN) {
  ImageSet images = tiny_images(3);
  images.labels = {0, 1, 2};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor logits =
      at::tensor(std::vector<float>{9, 1, 2, 3, 4, 5, /**/ 5, 5, 0, 0, 0, 0, /**/ 1, 2, nan, 3, 4, 5})
          .reshape({3, 6});
  const Accuracy accuracy = accuracy_of(logits, images);
  EXPECT_DOUBLE_EQ(accuracy.top1, 1.0 / 3);  // the tie goes to class 0, the NaN to nobody
  EXPECT_DOUBLE_EQ(accuracy.top5, 2.0 / 3);
}

}  // namespace
}  // namespace strata::vision
