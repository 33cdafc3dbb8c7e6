// Damaged ONNX files: each is read without a crash, or refused with an Error.
#include "strata/vision/onnx.h"
#include "strata/core/file.h"
#include "tests/readers/damage.h"

namespace strata::vision {
namespace {

OnnxModel small_model() {
  OnnxModel model;
  OnnxValueInfo input;
  input.name = "image";
  input.shape = {-1, 3};
  input.dimensions = {"batch", ""};
  input.has_shape = true;
  OnnxValueInfo output = input;
  output.name = "logits";
  model.inputs = {input};
  model.outputs = {output};
  model.constants = {onnx_tensor("w", {2, 3}, {1, -2, 3, 4.5f, 5, 6}),
                     onnx_integers("codes", OnnxType::Int4, {3}, {-8, 7, -1}),
                     onnx_integers("shape", OnnxType::Int64, {2}, {-1, int64_t{1} << 40})};
  OnnxAttribute transpose, pads;
  transpose.name = "transB";
  transpose.kind = OnnxAttribute::Kind::Int;
  transpose.integer = 1;
  pads.name = "pads";
  pads.kind = OnnxAttribute::Kind::Ints;
  pads.integers = {1, -2, 3};
  model.nodes = {{"Gemm", "gemm", "", {"image", "w", ""}, {"logits"}, {transpose, pads}}};
  model.metadata = {{"author", "somebody"}};
  return model;
}

TEST(OnnxFiles, Small) {
  TemporaryDirectory directory;
  const std::filesystem::path target = directory / "m.onnx";
  write_onnx(target, small_model());
  expect_no_crash(read_text(target), target, 3000, [&] {
    const OnnxModel model = read_onnx(target);
    for (const OnnxTensor& tensor : model.constants) {
      tensor.floats();
      if (!tensor.is_real()) tensor.integers();
    }
  });
}

// A real network, cut anywhere.
TEST(OnnxFiles, CutShort) {
  TemporaryDirectory directory;
  const std::filesystem::path target = directory / "m.onnx";
  const std::string original = read_text(STRATA_SOURCE_DIR "/models/mobilenetv2-cifar10.onnx");
  Random random(5);
  for (int i = 0; i < 20; ++i) {
    write_file(target, original.substr(0, static_cast<size_t>(random.below(original.size()))));
    EXPECT_THROW(read_onnx(target), Error);
  }
}

}  // namespace
}  // namespace strata::vision
