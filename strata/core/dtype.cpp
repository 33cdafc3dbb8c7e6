#include "strata/core/dtype.h"

#include <cmath>
#include <cstring>

#include "strata/core/error.h"

namespace strata {
namespace {

template <class To, class From>
To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

// F16C does these conversions in hardware on nearly every x86 machine; chosen when the program is loaded.
#if defined(__x86_64__) && defined(__GNUC__)
#define STRATA_CLONES __attribute__((target_clones("default", "arch=haswell")))
#else
#define STRATA_CLONES
#endif

STRATA_CLONES void halves_to_floats(const uint16_t* source, float* target, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    // Branch-free: shift the exponent into place, scale by 2^112, which also normalises subnormals.
    const uint32_t magnitude = static_cast<uint32_t>(source[i] & 0x7fff) << 13;
    const uint32_t sign = static_cast<uint32_t>(source[i] & 0x8000) << 16;
    const float scaled = bit_cast<float>(magnitude) * 0x1.0p112f;
    const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    target[i] = bit_cast<float>(bit_cast<uint32_t>(scaled) | special | sign);
  }
}

void bfloats_to_floats(const uint16_t* source, float* target, int64_t n) {
  for (int64_t i = 0; i < n; ++i) target[i] = bit_cast<float>(static_cast<uint32_t>(source[i]) << 16);
}

}  // namespace

size_t size_of(DType type) {
  switch (type) {
    case DType::F64:
    case DType::I64:
      return 8;
    case DType::F32:
    case DType::I32:
    case DType::U32:
      return 4;
    case DType::F16:
    case DType::BF16:
    case DType::I16:
      return 2;
    default:
      return 1;
  }
}

std::string_view name_of(DType type) {
  switch (type) {
    case DType::F64:
      return "F64";
    case DType::F32:
      return "F32";
    case DType::F16:
      return "F16";
    case DType::BF16:
      return "BF16";
    case DType::I64:
      return "I64";
    case DType::I32:
      return "I32";
    case DType::U32:
      return "U32";
    case DType::I16:
      return "I16";
    case DType::I8:
      return "I8";
    case DType::U8:
      return "U8";
    case DType::Bool:
      return "BOOL";
  }
  return "?";
}

float half_to_float(uint16_t bits) {
  float value;
  halves_to_floats(&bits, &value, 1);
  return value;
}

uint16_t float_to_half(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u)
    return static_cast<uint16_t>(sign | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {
    // Subnormal half: adding 0.5 lets the float adder round to the right unit in the last place.
    const float rounded = bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (bit_cast<uint32_t>(rounded) - 0x3f000000u));
  }
  const uint32_t even = (magnitude >> 13) & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + even) >> 13));
}

float bfloat16_to_float(uint16_t bits) {
  float value;
  bfloats_to_floats(&bits, &value, 1);
  return value;
}

uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

void to_float(DType type, const std::byte* source, float* target, int64_t n) {
  const auto* half = reinterpret_cast<const uint16_t*>(source);
  switch (type) {
    case DType::F32:
      std::memcpy(target, source, static_cast<size_t>(n) * 4);
      return;
    case DType::F16:
    case DType::BF16: {
      // The source may lie at any address of a mapped file.
      uint16_t buffer[1024];
      for (int64_t i = 0; i < n; i += 1024) {
        const int64_t count = n - i < 1024 ? n - i : 1024;
        std::memcpy(buffer, half + i, static_cast<size_t>(count) * 2);
        (type == DType::F16 ? halves_to_floats : bfloats_to_floats)(buffer, target + i, count);
      }
      return;
    }
    case DType::F64:
      for (int64_t i = 0; i < n; ++i) {
        double value;
        std::memcpy(&value, source + 8 * i, 8);
        target[i] = static_cast<float>(value);
      }
      return;
    default:
      fail("values of type {} cannot be read as weights; F64, F32, F16 or BF16 was expected", name_of(type));
  }
}

void from_float(DType type, const float* source, std::byte* target, int64_t n) {
  switch (type) {
    case DType::F32:
      std::memcpy(target, source, static_cast<size_t>(n) * 4);
      return;
    case DType::F16:
    case DType::BF16:
      for (int64_t i = 0; i < n; ++i) {
        const uint16_t bits = type == DType::F16 ? float_to_half(source[i]) : float_to_bfloat16(source[i]);
        std::memcpy(target + 2 * i, &bits, 2);
      }
      return;
    default:
      fail("weights cannot be written as {}; F32, F16 or BF16 was expected", name_of(type));
  }
}

}  // namespace strata
