#pragma once

#include "strata/vision/onnx.h"

namespace strata::vision {

// One Gemm, with constants and attributes of several kinds.
inline OnnxModel small_model() {
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
  transpose.integer = -3;
  pads.name = "pads";
  pads.kind = OnnxAttribute::Kind::Ints;
  pads.integers = {1, -2, 3};
  model.nodes = {{"Gemm", "gemm", "", {"image", "w", ""}, {"logits"}, {transpose, pads}}};
  model.metadata = {{"author", "somebody"}};
  return model;
}

}  // namespace strata::vision
