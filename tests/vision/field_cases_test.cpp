// Models as people export them, each right or refused.
#include <gtest/gtest.h>

#include "strata/core/error.h"
#include "strata/vision/onnx_export.h"
#include "strata/vision/probes.h"
#include "strata/vision/top_k.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"
#include "tests/vision/tiny_images.h"

namespace strata::vision {
namespace {

// The model quantized at `bits`, after a check that it computes what was simulated.
OnnxModel quantized(const OnnxModel& model, int bits = 8) {
  const Graph graph(model, at::kCPU);
  const ImageSet images = tiny_images(20);
  QuantizedLayers layers(graph, images, {});
  const std::vector<Widths> plan(graph.layers().size(), Widths{bits, 8});
  const OnnxModel result = quantized_model(layers, plan, {});
  check_quantized(result, layers, plan, images);
  return result;
}

// Dropout as the last node goes, and the output keeps its name.
TEST(FieldCases, DropoutIsTheLastNode) {
  OnnxModel model = tiny_network();
  model.opset = 7;
  model.nodes.back().outputs = {"before"};
  model.nodes.push_back({"Dropout", "drop", "", {"before"}, {"logits"}, {real("ratio", 0.2f)}});
  const OnnxModel written = quantized(model);
  for (const OnnxNode& node : written.nodes) EXPECT_NE(node.op_type, "Dropout");
  EXPECT_EQ(written.nodes.back().outputs.front(), "logits");
  EXPECT_TRUE(at::equal(run(model, tiny_images(3).pixels), run(tiny_network(), tiny_images(3).pixels)));
}

// An output that two names stand for.
TEST(FieldCases, IdentitiesBetweenOutputsStay) {
  OnnxModel model = tiny_network();
  model.nodes.push_back({"Identity", "copy", "", {"logits"}, {"again"}, {}});
  model.outputs.push_back(value("again", {-1, 5}));
  const Graph graph(model, at::kCPU);
  const Tensors outputs = Execution(graph, {tiny_images(2).pixels}).finish();
  ASSERT_EQ(outputs.size(), 2u);
  EXPECT_TRUE(at::equal(outputs[0], outputs[1]));
}

TEST(FieldCases, NamesThatTheExporterWouldGive) {
  OnnxModel model = tiny_network();
  const OnnxModel plain = model;
  for (const char* name : {"depthwise.weight_scale", "depthwise.weight_zero", "depthwise.weight_codes",
                           "image_u8_0_scale", "image_u8_0_codes", "stem.weight_corrected_bias"}) {
    model.constants.push_back(onnx_tensor(name, {}, {1}));
    OnnxNode& last = model.nodes.back();
    const std::string flow = last.inputs[0], scaled = std::string(name) + "_times";
    last.inputs[0] = scaled;
    model.nodes.insert(model.nodes.end() - 1, {"Mul", scaled, "", {flow, name}, {scaled}, {}});
  }
  const TemporaryDirectory directory;
  write_onnx(directory / "q.onnx", quantized(model, 6));
  const at::Tensor images = tiny_images(4).pixels;
  EXPECT_TRUE(at::allclose(run(read_onnx(directory / "q.onnx"), images), run(quantized(plain, 6), images),
                           1e-4, 1e-4));
}

// The last product counts as a layer though it has factors, and labels are held against what comes out.
TEST(FieldCases, FactorsOfTheLastProduct) {
  OnnxModel model = tiny_network();
  model.nodes.back().attributes.push_back(real("alpha", 0.5f));
  model.nodes.back().attributes.push_back(real("beta", 2));
  const Graph graph(model, at::kCPU);
  ASSERT_EQ(graph.layers().size(), 4u);
  EXPECT_EQ(graph.last_layers(), (std::vector<size_t>{3}));
  const at::Tensor images = tiny_images(3).pixels;
  const at::Tensor bias = at::tensor(model.constant("classifier.bias")->floats());
  EXPECT_TRUE(at::allclose(run(model, images), run(tiny_network(), images) * 0.5 + 1.5 * bias, 1e-4, 1e-5));
  quantized(model);
}

// Layers at the ends are those that no layer stands before or behind, in whatever order the file has them.
TEST(FieldCases, EndsAreFoundByWhatFlows) {
  OnnxModel model = tiny_network();
  Random random(5);
  add_constant(model, "second.weight", {5, 6}, random);
  model.nodes.insert(model.nodes.end() - 1,
                     {"Gemm", "second", "", {"h", "second.weight"}, {"other"}, {whole("transB", 1)}});
  model.outputs.push_back(value("other", {-1, 5}));
  const Graph graph(model, at::kCPU);
  EXPECT_EQ(graph.first_layers(), (std::vector<size_t>{0}));
  EXPECT_EQ(graph.last_layers(), (std::vector<size_t>{3, 4}));
  EXPECT_EQ(free_layers(graph, false), (std::vector<size_t>{1, 2}));
}

TEST(FieldCases, OutputsWithPixels) {
  OnnxModel model = tiny_network();
  *model.constant("classifier.weight") =
      onnx_tensor("classifier.weight", {5, 6, 1, 1}, model.constant("classifier.weight")->floats());
  model.nodes.erase(model.nodes.begin() + 7);
  model.nodes.back() = {"Conv", "classifier", "", {"g", "classifier.weight", "classifier.bias"}, {"logits"},
                        {}};
  model.outputs = {value("logits", {-1, 5, 1, 1})};
  const ImageSet images = tiny_images(20);
  const Graph graph(model, at::kCPU), plain(tiny_network(), at::kCPU);
  EXPECT_TRUE(at::allclose(compute_logits(graph, images), compute_logits(plain, images), 1e-4, 1e-5));
}

// What comes behind the last layers is carried through, and named; between layers it is refused.
TEST(FieldCases, UnknownOperatorsBehindTheLayers) {
  OnnxModel model = tiny_network();
  model.constants.push_back(onnx_integers("k", OnnxType::Int64, {1}, {2}));
  model.nodes.push_back({"TopK", "best", "", {"logits", "k"}, {"values", "places"}, {}});
  model.nodes.push_back({"Neg", "behind", "", {"values"}, {"negated"}, {}});
  model.outputs = {value("negated", {-1, 2})};
  const Graph graph(model, at::kCPU);
  EXPECT_EQ(graph.carried(), (std::vector<std::string>{"TopK 'best'", "Neg 'behind'"}));
  ASSERT_EQ(graph.outputs().size(), 1u);
  EXPECT_EQ(graph.outputs()[0].info.name, "logits");
  const OnnxModel written = quantized(model, 4);
  EXPECT_EQ(written.nodes.back().op_type, "Neg");
  EXPECT_EQ(written.outputs[0].name, "negated");
  model.opset = 9;
  EXPECT_NE(
      error_of([&] { quantized(model); }).find("TopK 'best' may mean something else in operator set 13"),
      std::string::npos);
}

TEST(FieldCases, UnknownOperatorsBeforeTheLayers) {
  OnnxModel model = tiny_network();
  model.nodes.insert(model.nodes.begin(), {"Decode", "decode", "somebody", {"bytes"}, {"image"}, {}});
  model.inputs = {value("bytes", {-1})};
  model.inputs[0].type = OnnxType::UInt8;
  model.other_opsets = {{"somebody", 2}};
  const Graph graph(model, at::kCPU);
  ASSERT_EQ(graph.inputs().size(), 1u);
  EXPECT_EQ(graph.inputs()[0].info.name, "image");
  const TemporaryDirectory directory;
  write_onnx(directory / "q.onnx", quantized(model));
  const OnnxModel read = read_onnx(directory / "q.onnx");
  EXPECT_EQ(read.nodes[0].domain, "somebody");
  EXPECT_EQ(read.other_opsets, model.other_opsets);
}

// A file that computes something else is not kept.
TEST(FieldCases, WrittenFilesAreChecked) {
  const OnnxModel model = tiny_network();
  const Graph graph(model, at::kCPU);
  const ImageSet images = tiny_images(20);
  QuantizedLayers layers(graph, images, {});
  const std::vector<Widths> plan(4);
  OnnxModel wrong = quantized_model(layers, plan, {});
  OnnxTensor& bias = *wrong.constant("classifier.weight_corrected_bias");
  std::vector<float> values = bias.floats();
  values[2] += 0.05f;
  bias = onnx_tensor(bias.name, bias.shape, values);
  const TemporaryDirectory directory;
  const std::string error = error_of([&] {
    write_onnx(directory / "q.onnx", wrong, [&](const std::filesystem::path& complete) {
      check_quantized(read_onnx(complete), layers, plan, images);
    });
  });
  EXPECT_NE(error.find("the output 'logits' of the quantized model differs"), std::string::npos) << error;
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

}  // namespace
}  // namespace strata::vision
