// Damaged ONNX files: each is read without a crash, or refused with an Error.
#include "strata/vision/onnx.h"
#include "strata/core/file.h"
#include "tests/readers/damage.h"
#include "tests/support/small_onnx.h"

namespace strata::vision {
namespace {

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
