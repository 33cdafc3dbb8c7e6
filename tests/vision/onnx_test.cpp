#include "strata/vision/onnx.h"

#include <gtest/gtest.h>

#include <fstream>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/protobuf.h"
#include "tests/support/small_onnx.h"
#include "tests/support/temporary_directory.h"

namespace strata::vision {
namespace {

std::string error_of_onnx(const std::filesystem::path& path) {
  try {
    read_onnx(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Onnx, ReadsWhatItWrites) {
  const TemporaryDirectory directory;
  write_onnx(directory / "m.onnx", small_model());
  const OnnxModel model = read_onnx(directory / "m.onnx");
  EXPECT_EQ(model.opset, 17);
  ASSERT_EQ(model.nodes.size(), 1u);
  EXPECT_EQ(model.nodes[0].inputs, (std::vector<std::string>{"image", "w", ""}));
  EXPECT_EQ(model.nodes[0].find("transB")->integer, -3);
  EXPECT_EQ(model.nodes[0].find("pads")->integers, (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(model.constant("w")->floats(), (std::vector<float>{1, -2, 3, 4.5f, 5, 6}));
  EXPECT_EQ(model.constant("codes")->integers(), (std::vector<int64_t>{-8, 7, -1}));
  EXPECT_EQ(model.constant("codes")->data.size(), 2u);
  EXPECT_EQ(model.constant("shape")->integers(), (std::vector<int64_t>{-1, int64_t{1} << 40}));
  EXPECT_EQ(model.inputs[0].shape, (std::vector<int64_t>{-1, 3}));
  EXPECT_EQ(model.inputs[0].dimensions[0], "batch");
  EXPECT_EQ(model.metadata[0].second, "somebody");
}

TEST(Onnx, ReadsTheBundledNetwork) {
  const OnnxModel model = read_onnx(STRATA_SOURCE_DIR "/models/mobilenetv2-cifar10.onnx");
  EXPECT_EQ(model.nodes.size(), 170u);
  EXPECT_EQ(model.constants.size(), 106u);
  EXPECT_EQ(model.constant("features.0.0.weight")->shape, (std::vector<int64_t>{32, 3, 3, 3}));
}

// Every prefix and every changed byte: an error or a model, never a crash.
TEST(Onnx, SurvivesDamage) {
  const TemporaryDirectory directory;
  write_onnx(directory / "m.onnx", small_model());
  const std::string whole = read_text(directory / "m.onnx");
  const auto path = directory / "damaged.onnx";
  const auto try_bytes = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    return error_of_onnx(path);
  };
  for (size_t size = 1; size < whole.size(); size += 3) {
    const std::string error = try_bytes(whole.substr(0, size));
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
  EXPECT_NE(try_bytes(whole.substr(0, whole.size() / 2)).find("damaged.onnx"), std::string::npos);
  for (size_t at = 0; at < whole.size(); ++at)
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      try_bytes(bytes);
    }
  EXPECT_NE(try_bytes("not a model at all, but text").find("not an ONNX"), std::string::npos);
}

TEST(Onnx, RefusesTensorsThatDoNotFit) {
  const TemporaryDirectory directory;
  const auto error_with = [&](const std::function<void(OnnxModel&)>& change) {
    OnnxModel model = small_model();
    change(model);
    write_onnx(directory / "m.onnx", model);
    return error_of_onnx(directory / "m.onnx");
  };
  EXPECT_NE(error_with([](OnnxModel& m) { m.constants[0].data.pop_back(); }).find("'w' has 23 bytes"),
            std::string::npos);
  EXPECT_NE(error_with([](OnnxModel& m) {
              m.constants[0].shape = {int64_t{1} << 40, int64_t{1} << 40};
            }).find("a dimension of"),
            std::string::npos);
  EXPECT_NE(error_with([](OnnxModel& m) {
              m.constants[0].shape = {-2, -3};
            }).find("a dimension of -2"),
            std::string::npos);
  EXPECT_NE(
      error_with([](OnnxModel& m) { m.constants[0].type = static_cast<OnnxType>(8); }).find("element type 8"),
      std::string::npos);
  EXPECT_NE(error_with([](OnnxModel& m) { m.nodes[0].inputs[1] = "nowhere"; }).find("needs 'nowhere'"),
            std::string::npos);
  EXPECT_NE(error_with([](OnnxModel& m) { m.nodes[0].inputs[2] = "logits"; }).find("wait for each other"),
            std::string::npos);
  EXPECT_NE(error_with([](OnnxModel& m) { m.outputs[0].name = "nothing"; }).find("'nothing' is not computed"),
            std::string::npos);
  EXPECT_NE(
      error_with([](OnnxModel& m) { m.constants.push_back(m.constants[0]); }).find("two constants named 'w'"),
      std::string::npos);
}

// A model whose one constant is 2 floats at byte 4 of `location`.
std::string external_model(const std::string& location) {
  const auto entry = [](const std::string& key, const std::string& value) {
    ProtobufWriter writer;
    writer.bytes(1, key);
    writer.bytes(2, value);
    return writer.message();
  };
  ProtobufWriter tensor, node, graph, model;
  tensor.packed(1, {2});
  tensor.integer(2, 1);
  tensor.bytes(8, "w");
  tensor.bytes(13, entry("location", location));
  tensor.bytes(13, entry("offset", "4"));
  tensor.integer(14, 1);
  node.bytes(1, "w");
  node.bytes(2, "y");
  node.bytes(4, "Relu");
  graph.bytes(1, node.message());
  graph.bytes(5, tensor.message());
  model.bytes(7, graph.message());
  return model.message();
}

TEST(Onnx, ReadsExternalDataInItsFolderOnly) {
  const TemporaryDirectory directory;
  const std::vector<float> values = {9, 1.5f, -2};
  std::ofstream(directory / "w.bin", std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()), 12);
  const auto path = directory / "m.onnx";
  std::ofstream(path, std::ios::binary) << external_model("w.bin");
  EXPECT_EQ(read_onnx(path).constant("w")->floats(), (std::vector<float>{1.5f, -2}));
  std::ofstream(path, std::ios::binary) << external_model("../w.bin");
  EXPECT_NE(error_of_onnx(path).find("only files in the model's folder"), std::string::npos);
  std::ofstream(path, std::ios::binary) << external_model("w.bin");
  std::ofstream(directory / "w.bin", std::ios::binary) << "short";
  EXPECT_NE(error_of_onnx(path).find("needs 8 bytes from byte 4"), std::string::npos) << error_of_onnx(path);
}

}  // namespace
}  // namespace strata::vision
