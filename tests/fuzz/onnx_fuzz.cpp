// An .onnx file: its graph and all constants.
#include "strata/vision/onnx.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(onnx) {
  const auto model = strata::vision::read_onnx(strata::fuzz_file("x.onnx", bytes));
  for (const strata::vision::OnnxTensor& tensor : model.constants) {
    tensor.floats();
    if (!tensor.is_real()) tensor.integers();
  }
}
