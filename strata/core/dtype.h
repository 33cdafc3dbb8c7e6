#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace strata {

// Element types of checkpoint files, by safetensors' names.
enum class DType { F64, F32, F16, BF16, I64, I32, U32, I16, I8, U8, Bool };

size_t size_of(DType type);
std::string_view name_of(DType type);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);  // nearest even; overflow gives infinity
float bfloat16_to_float(uint16_t bits);
uint16_t float_to_bfloat16(float value);  // nearest even

// Converts n values between a stored type and float. Only F64 (narrowed), F32, F16 and BF16 can be read, and
// F32, F16 and BF16 written; other types throw.
void to_float(DType type, const std::byte* source, float* target, int64_t n);
void from_float(DType type, const float* source, std::byte* target, int64_t n);

}  // namespace strata
