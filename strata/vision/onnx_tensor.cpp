#include <cmath>
#include <cstring>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/vision/onnx.h"

namespace strata::vision {
namespace {

template <class Stored, class Value>
std::vector<Value> convert(const OnnxTensor& tensor) {
  std::vector<Value> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, tensor.data.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = static_cast<Value>(stored);
  }
  return values;
}

template <class Value>
std::vector<Value> unpack_nibbles(const OnnxTensor& tensor, bool is_signed) {
  std::vector<Value> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    const int nibble = static_cast<uint8_t>(tensor.data[i / 2]) >> (i % 2 == 0 ? 0 : 4) & 15;
    values[i] = static_cast<Value>(is_signed && nibble > 7 ? nibble - 16 : nibble);
  }
  return values;
}

template <class Value>
std::vector<Value> whole_numbers(const OnnxTensor& tensor) {
  switch (tensor.type) {
    case OnnxType::UInt8:
    case OnnxType::Bool:
      return convert<uint8_t, Value>(tensor);
    case OnnxType::Int8:
      return convert<int8_t, Value>(tensor);
    case OnnxType::Int32:
      return convert<int32_t, Value>(tensor);
    case OnnxType::Int64:
      return convert<int64_t, Value>(tensor);
    case OnnxType::UInt4:
      return unpack_nibbles<Value>(tensor, false);
    case OnnxType::Int4:
      return unpack_nibbles<Value>(tensor, true);
    default:
      fail("the tensor '{}' holds real numbers where whole numbers are expected", printable(tensor.name));
  }
}

template <class Stored>
void append(std::string& data, const std::vector<int64_t>& values) {
  data.resize(values.size() * sizeof(Stored));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto stored = static_cast<Stored>(values[i]);
    std::memcpy(data.data() + i * sizeof(Stored), &stored, sizeof(Stored));
  }
}

}  // namespace

int64_t OnnxTensor::elements() const {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

bool OnnxTensor::is_real() const {
  return type == OnnxType::Float || type == OnnxType::Double || type == OnnxType::Float16 ||
         type == OnnxType::BFloat16;
}

std::vector<float> OnnxTensor::floats() const {
  if (!is_real()) return whole_numbers<float>(*this);
  if (type == OnnxType::Float) return convert<float, float>(*this);
  if (type == OnnxType::Double) return convert<double, float>(*this);
  std::vector<float> values(static_cast<size_t>(elements()));
  to_float(type == OnnxType::Float16 ? DType::F16 : DType::BF16,
           reinterpret_cast<const std::byte*>(data.data()), values.data(), elements());
  return values;
}

std::vector<int64_t> OnnxTensor::integers() const {
  return whole_numbers<int64_t>(*this);
}

OnnxTensor onnx_tensor(std::string name, std::vector<int64_t> shape, const std::vector<float>& values) {
  OnnxTensor tensor{std::move(name), OnnxType::Float, std::move(shape), {}};
  tensor.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return tensor;
}

OnnxTensor onnx_integers(std::string name, OnnxType type, std::vector<int64_t> shape,
                         const std::vector<int64_t>& values) {
  OnnxTensor tensor{std::move(name), type, std::move(shape), {}};
  switch (type) {
    case OnnxType::UInt8:
    case OnnxType::Bool:
      append<uint8_t>(tensor.data, values);
      break;
    case OnnxType::Int8:
      append<int8_t>(tensor.data, values);
      break;
    case OnnxType::Int32:
      append<int32_t>(tensor.data, values);
      break;
    case OnnxType::Int64:
      append<int64_t>(tensor.data, values);
      break;
    case OnnxType::UInt4:
    case OnnxType::Int4:
      tensor.data.assign((values.size() + 1) / 2, '\0');
      for (size_t i = 0; i < values.size(); ++i)
        tensor.data[i / 2] = static_cast<char>(tensor.data[i / 2] | (values[i] & 15) << (i % 2 == 0 ? 0 : 4));
      break;
    default:
      fail("the tensor '{}' cannot hold whole numbers in its type", printable(tensor.name));
  }
  return tensor;
}

}  // namespace strata::vision
