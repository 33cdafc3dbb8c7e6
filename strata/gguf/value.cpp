#include <limits>

#include "strata/gguf/file.h"

namespace strata {
namespace {

template <class T>
GgufValue array_of(GgufValue::Type element_type, T values) {
  GgufValue value{GgufValue::Type::Array, std::move(values)};
  value.element_type = element_type;
  return value;
}

}  // namespace

GgufValue gguf_u32(uint32_t value) {
  return {GgufValue::Type::U32, uint64_t{value}};
}

GgufValue gguf_f32(float value) {
  return {GgufValue::Type::F32, double{value}};
}

GgufValue gguf_bool(bool value) {
  return {GgufValue::Type::Bool, value};
}

GgufValue gguf_string(std::string value) {
  return {GgufValue::Type::String, std::move(value)};
}

GgufValue gguf_strings(std::vector<std::string> values) {
  return array_of(GgufValue::Type::String, std::move(values));
}

GgufValue gguf_i32s(std::vector<int64_t> values) {
  return array_of(GgufValue::Type::I32, std::move(values));
}

GgufValue gguf_bytes(const std::string& bytes) {
  std::vector<int64_t> values;
  for (const char byte : bytes) values.push_back(static_cast<uint8_t>(byte));
  return array_of(GgufValue::Type::U8, std::move(values));
}

GgufValue gguf_bools(std::vector<bool> values) {
  return array_of(GgufValue::Type::Bool, std::move(values));
}

GgufValue gguf_f32s(std::vector<double> values) {
  return array_of(GgufValue::Type::F32, std::move(values));
}

std::optional<int64_t> gguf_integer(const GgufValue& value) {
  if (const auto* number = std::get_if<int64_t>(&value.value)) return *number;
  const auto* number = std::get_if<uint64_t>(&value.value);
  if (number == nullptr || *number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    return std::nullopt;
  return static_cast<int64_t>(*number);
}

std::optional<double> gguf_number(const GgufValue& value) {
  if (const auto* number = std::get_if<double>(&value.value)) return *number;
  if (const auto* number = std::get_if<uint64_t>(&value.value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<int64_t>(&value.value)) return static_cast<double>(*number);
  return std::nullopt;
}

}  // namespace strata
