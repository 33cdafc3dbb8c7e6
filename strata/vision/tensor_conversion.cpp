#include "strata/vision/tensor_conversion.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <numeric>

#include "strata/core/error.h"

namespace strata::vision {

bool is_free(const at::Tensor& input) {
  const bool may_change =
      !at::GradMode::is_enabled() && input.is_inference() == c10::InferenceMode::is_enabled();
  return may_change && input.is_floating_point() && input.use_count() == 1 &&
         input.storage().use_count() == 1 && input.is_non_overlapping_and_dense();
}

at::Tensor to_tensor(const OnnxTensor& constant) {
  if (constant.is_real()) return at::tensor(constant.floats(), at::kFloat).reshape(constant.shape);
  return at::tensor(constant.integers(), at::kLong).to(scalar_type_of(constant.type)).reshape(constant.shape);
}

OnnxTensor to_constant(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU).contiguous();
  if (values.is_floating_point()) {
    const at::Tensor floats = values.to(at::kFloat);
    const float* data = floats.data_ptr<float>();
    return onnx_tensor(name, floats.sizes().vec(), {data, data + floats.numel()});
  }
  const auto type = values.scalar_type() == at::kByte   ? OnnxType::UInt8
                    : values.scalar_type() == at::kChar ? OnnxType::Int8
                    : values.scalar_type() == at::kInt  ? OnnxType::Int32
                    : values.scalar_type() == at::kBool ? OnnxType::Bool
                                                        : OnnxType::Int64;
  return onnx_integers(name, type, values.sizes().vec(), integers_of(values));
}

std::vector<int64_t> integers_of(const at::Tensor& tensor) {
  const at::Tensor whole = tensor.to(at::kCPU, at::kLong).contiguous();
  return {whole.data_ptr<int64_t>(), whole.data_ptr<int64_t>() + whole.numel()};
}

std::vector<int64_t> all_axes(const at::Tensor& tensor) {
  std::vector<int64_t> axes(static_cast<size_t>(tensor.dim()));
  std::iota(axes.begin(), axes.end(), 0);
  return axes;
}

at::ScalarType scalar_type_of(OnnxType type) {
  switch (type) {
    case OnnxType::UInt8:
      return at::kByte;
    case OnnxType::Int8:
    case OnnxType::UInt4:
    case OnnxType::Int4:
      return at::kChar;
    case OnnxType::Int32:
      return at::kInt;
    case OnnxType::Int64:
      return at::kLong;
    case OnnxType::Bool:
      return at::kBool;
    default:
      return at::kFloat;
  }
}

std::vector<at::Tensor> on_one_device(std::vector<at::Tensor> tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (tensor.is_cpu()) continue;
    for (at::Tensor& other : tensors) other = other.to(tensor.device());
    break;
  }
  return tensors;
}

at::Tensor round_to_type(const at::Tensor& values, OnnxType type) {
  if (type == OnnxType::Float16) return values.to(at::kHalf).to(at::kFloat);
  if (type == OnnxType::BFloat16) return values.to(at::kBFloat16).to(at::kFloat);
  return values;
}

}  // namespace strata::vision
