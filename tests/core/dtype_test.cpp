#include "strata/core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/random.h"

namespace strata {
namespace {

// A binary float format with a sign, `exponent_bits` and `mantissa_bits`, by its definition in IEEE 754.
struct Format {
  int exponent_bits, mantissa_bits;

  double value(uint32_t bits) const {
    const int exponent_max = (1 << exponent_bits) - 1, bias = exponent_max / 2;
    const double sign = (bits >> (exponent_bits + mantissa_bits)) & 1 ? -1 : 1;
    const int exponent = (bits >> mantissa_bits) & exponent_max;
    const double mantissa = bits & ((1u << mantissa_bits) - 1);
    if (exponent == exponent_max)
      return mantissa == 0 ? sign * HUGE_VAL : std::numeric_limits<double>::quiet_NaN();
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  }
  uint32_t infinity() const { return ((1u << exponent_bits) - 1) << mantissa_bits; }
};

constexpr Format kHalf{5, 10};
constexpr Format kBfloat16{8, 7};

void expect_same_value(float actual, double expected, uint32_t bits) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(actual)) << bits;
  } else {
    EXPECT_EQ(static_cast<double>(actual), expected) << bits;
    EXPECT_EQ(std::signbit(actual), std::signbit(expected)) << bits;
  }
}

TEST(DType, EveryHalfAndBfloat16HasItsIeeeValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    expect_same_value(half_to_float(static_cast<uint16_t>(bits)), kHalf.value(bits), bits);
    expect_same_value(bfloat16_to_float(static_cast<uint16_t>(bits)), kBfloat16.value(bits), bits);
  }
}

// Between every two neighbouring values: the middle goes to the even one, its neighbours to the nearer one.
void check_rounding(const Format& format, uint16_t (*convert)(float)) {
  const uint32_t sign = 0x8000;
  for (uint32_t low = 0; low < format.infinity(); ++low) {
    const double below = format.value(low);
    // What the value after the largest finite one would be: overflow starts half way to it.
    const double above =
        low + 1 == format.infinity() ? 2 * below - format.value(low - 1) : format.value(low + 1);
    const auto middle = static_cast<float>((below + above) / 2);
    const uint32_t even = low % 2 == 0 ? low : low + 1;
    ASSERT_EQ(convert(static_cast<float>(below)), low);
    ASSERT_EQ(convert(-static_cast<float>(below)), low | sign);
    if (static_cast<double>(middle) != (below + above) / 2) continue;  // below float's own smallest step
    ASSERT_EQ(convert(middle), even) << low;
    ASSERT_EQ(convert(-middle), even | sign) << low;
    ASSERT_EQ(convert(std::nextafter(middle, 0.0f)), low) << low;
    ASSERT_EQ(convert(std::nextafter(middle, HUGE_VALF)), low + 1) << low;
  }
  EXPECT_EQ(convert(HUGE_VALF), format.infinity());
  EXPECT_EQ(convert(-HUGE_VALF), format.infinity() | sign);
  EXPECT_TRUE(std::isnan(format.value(convert(std::nanf("")))));
}

TEST(DType, HalfRoundsToNearestEven) {
  check_rounding(kHalf, float_to_half);
}
TEST(DType, Bfloat16RoundsToNearestEven) {
  check_rounding(kBfloat16, float_to_bfloat16);
}

TEST(DType, NansWithAnyPayloadStayNan) {
  for (uint32_t payload : {1u, 0x1fffu, 0x2000u, 0xffffu, 0x10000u, 0x3fffffu, 0x7fffffu}) {
    for (uint32_t sign : {0u, 0x80000000u}) {
      const uint32_t bits = sign | 0x7f800000u | payload;
      float value;
      std::memcpy(&value, &bits, sizeof(value));
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value))));
      EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(value))));
    }
  }
}

TEST(DType, ArraysAtAnyAddressConvertLikeSingleValues) {
  Random random(1);
  const int64_t n = 2500;  // more than one internal buffer, not a multiple of one
  std::vector<float> values(n), back(n);
  for (float& value : values) value = static_cast<float>(random.normal());
  for (DType type : {DType::F32, DType::F16, DType::BF16}) {
    std::vector<std::byte> bytes(n * size_of(type) + 1);
    from_float(type, values.data(), bytes.data() + 1, n);
    to_float(type, bytes.data() + 1, back.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const float expected = type == DType::F32   ? values[i]
                             : type == DType::F16 ? half_to_float(float_to_half(values[i]))
                                                  : bfloat16_to_float(float_to_bfloat16(values[i]));
      ASSERT_EQ(back[i], expected) << name_of(type) << " " << i;
    }
  }
}

TEST(DType, DoublesAreNarrowed) {
  const double values[2] = {1.0 / 3, -2e-300};
  float narrowed[2];
  to_float(DType::F64, reinterpret_cast<const std::byte*>(values), narrowed, 2);
  EXPECT_EQ(narrowed[0], static_cast<float>(1.0 / 3));
  EXPECT_EQ(narrowed[1], 0.0f);
}

TEST(DType, IntegersAreNotWeights) {
  float value = 0;
  std::byte bytes[8] = {};
  for (DType type : {DType::I64, DType::I32, DType::I16, DType::I8, DType::U8, DType::Bool}) {
    EXPECT_THROW(to_float(type, bytes, &value, 1), Error);
    EXPECT_THROW(from_float(type, &value, bytes, 1), Error);
  }
  EXPECT_THROW(from_float(DType::F64, &value, bytes, 1), Error);
}

TEST(DType, SizesAndNamesAreThoseOfSafetensors) {
  EXPECT_EQ(size_of(DType::F64), 8u);
  EXPECT_EQ(size_of(DType::I32), 4u);
  EXPECT_EQ(size_of(DType::BF16), 2u);
  EXPECT_EQ(size_of(DType::U8), 1u);
  EXPECT_EQ(name_of(DType::BF16), "BF16");
  EXPECT_EQ(name_of(DType::Bool), "BOOL");
}

}  // namespace
}  // namespace strata
