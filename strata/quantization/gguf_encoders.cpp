#include "strata/quantization/gguf_encoders.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "strata/core/dtype.h"
#include "strata/quantization/gguf_fields.h"

namespace strata {
namespace {

constexpr float largest_half = 65504.0f;

uint16_t to_half(float value) {
  return float_to_half(std::clamp(value, -largest_half, largest_half));
}

int nearest(float value, int low, int high) {
  return static_cast<int>(std::lrint(std::clamp(value, static_cast<float>(low), static_cast<float>(high))));
}

float inverse(float value) {
  return value != 0 ? 1 / value : 0.0f;
}

// The value of largest magnitude, with its sign.
float extreme(const float* x, int n) {
  return *std::max_element(x, x + n, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
}

struct Range {
  float scale, offset;
};

Range range_of(const float* x, int n, int levels) {
  const auto [low, high] = std::minmax_element(x, x + n);
  return {(*high - *low) / static_cast<float>(levels - 1), *low};
}

void encode(const float* x, BlockQ8_0& block) {
  block.d = to_half(std::fabs(extreme(x, 32)) / 127);
  const float id = inverse(half_to_float(block.d));
  for (int i = 0; i < 32; ++i) block.codes[i] = static_cast<int8_t>(nearest(x[i] * id, -127, 127));
}

void encode(const float* x, BlockQ4_0& block) {
  block.d = to_half(extreme(x, 32) / -8);
  const float id = inverse(half_to_float(block.d));
  uint8_t q[32];
  for (int i = 0; i < 32; ++i) q[i] = static_cast<uint8_t>(nearest(x[i] * id, -8, 7) + 8);
  pack_nibbles(q, block.codes);
}

void encode(const float* x, BlockQ5_0& block) {
  block.d = to_half(extreme(x, 32) / -16);
  const float id = inverse(half_to_float(block.d));
  uint8_t q[32];
  for (int i = 0; i < 32; ++i) q[i] = static_cast<uint8_t>(nearest(x[i] * id, -16, 15) + 16);
  pack_nibbles(q, block.codes);
  pack_fifth_bits(q, block.high);
}

template <class Block>
void asymmetric_codes(const float* x, int levels, Block& block, uint8_t q[32]) {
  const Range range = range_of(x, 32, levels);
  block.d = to_half(range.scale);
  block.m = to_half(range.offset);
  const float id = inverse(half_to_float(block.d)), m = half_to_float(block.m);
  for (int i = 0; i < 32; ++i) q[i] = static_cast<uint8_t>(nearest((x[i] - m) * id, 0, levels - 1));
}

void encode(const float* x, BlockQ4_1& block) {
  uint8_t q[32];
  asymmetric_codes(x, 16, block, q);
  pack_nibbles(q, block.codes);
}

void encode(const float* x, BlockQ5_1& block) {
  uint8_t q[32];
  asymmetric_codes(x, 32, block, q);
  pack_nibbles(q, block.codes);
  pack_fifth_bits(q, block.high);
}

void encode(const float* x, BlockIQ4_NL& block) {
  block.d = to_half(extreme(x, 32) / -127);
  const float id = inverse(half_to_float(block.d));
  uint8_t q[32];
  for (int i = 0; i < 32; ++i) {
    const float value = x[i] * id;
    q[i] = 0;
    for (uint8_t k = 1; k < 16; ++k)
      if (std::fabs(value - iq4_nl_values[k]) < std::fabs(value - iq4_nl_values[q[i]])) q[i] = k;
  }
  pack_nibbles(q, block.codes);
}

template <int size>
void symmetric_fields(const float* x, int zero, int scale_low, int scale_high, int scale_offset,
                      SuperBlockFields& fields) {
  constexpr int count = 256 / size;
  float scales[count];
  for (int s = 0; s < count; ++s) scales[s] = extreme(x + s * size, size) / static_cast<float>(-zero);
  fields.d = to_half(extreme(scales, count) / static_cast<float>(scale_low));
  const float d = half_to_float(fields.d);
  for (int s = 0; s < count; ++s) {
    const int scale = nearest(scales[s] * inverse(d), scale_low, scale_high);
    fields.scales[s] = static_cast<int16_t>(scale + scale_offset);
    const float id = inverse(d * static_cast<float>(scale));
    for (int i = s * size; i < (s + 1) * size; ++i)
      fields.codes[i] = static_cast<uint8_t>(nearest(x[i] * id, -zero, zero - 1) + zero);
  }
}

template <int size>
void asymmetric_fields(const float* x, int levels, int largest, SuperBlockFields& fields) {
  constexpr int count = 256 / size;
  float scales[count], mins[count];
  for (int s = 0; s < count; ++s) {
    const auto [low, high] = std::minmax_element(x + s * size, x + (s + 1) * size);
    mins[s] = std::max(0.0f, -*low);
    scales[s] = std::max(0.0f, *high + mins[s]) / static_cast<float>(levels - 1);
  }
  fields.d = to_half(*std::max_element(scales, scales + count) / static_cast<float>(largest));
  fields.dmin = to_half(*std::max_element(mins, mins + count) / static_cast<float>(largest));
  const float d = half_to_float(fields.d), dmin = half_to_float(fields.dmin);
  for (int s = 0; s < count; ++s) {
    fields.scales[s] = static_cast<int16_t>(nearest(scales[s] * inverse(d), 0, largest));
    fields.mins[s] = static_cast<int16_t>(nearest(mins[s] * inverse(dmin), 0, largest));
    const float id = inverse(d * fields.scales[s]), min = dmin * fields.mins[s];
    for (int i = s * size; i < (s + 1) * size; ++i)
      fields.codes[i] = static_cast<uint8_t>(nearest((x[i] + min) * id, 0, levels - 1));
  }
}

void encode(const float* x, BlockQ2_K& block) {
  SuperBlockFields fields;
  asymmetric_fields<16>(x, 4, 15, fields);
  pack(fields, block);
}

void encode(const float* x, BlockQ3_K& block) {
  SuperBlockFields fields;
  symmetric_fields<16>(x, 4, -32, 31, 32, fields);
  pack(fields, block);
}

void encode(const float* x, BlockQ4_K& block) {
  SuperBlockFields fields;
  asymmetric_fields<32>(x, 16, 63, fields);
  pack(fields, block);
}

void encode(const float* x, BlockQ5_K& block) {
  SuperBlockFields fields;
  asymmetric_fields<32>(x, 32, 63, fields);
  pack(fields, block);
}

void encode(const float* x, BlockQ6_K& block) {
  SuperBlockFields fields;
  symmetric_fields<16>(x, 32, -128, 127, 0, fields);
  pack(fields, block);
}

template <class Block>
void encode_blocks(const float* x, int64_t n, int block_elements, std::byte* bytes) {
  for (int64_t i = 0; i < n; i += block_elements, bytes += sizeof(Block)) {
    Block block;
    encode(x + i, block);
    std::memcpy(bytes, &block, sizeof(Block));
  }
}

}  // namespace

void encode_row(GgufType type, const float* weights, int64_t cols, const float* importance,
                std::byte* blocks) {
  switch (type) {
    case GgufType::F32:
      return from_float(DType::F32, weights, blocks, cols);
    case GgufType::F16:
      return from_float(DType::F16, weights, blocks, cols);
    case GgufType::BF16:
      return from_float(DType::BF16, weights, blocks, cols);
    case GgufType::Q8_0:
      return encode_blocks<BlockQ8_0>(weights, cols, 32, blocks);
    case GgufType::Q4_0:
      return encode_blocks<BlockQ4_0>(weights, cols, 32, blocks);
    case GgufType::Q4_1:
      return encode_blocks<BlockQ4_1>(weights, cols, 32, blocks);
    case GgufType::Q5_0:
      return encode_blocks<BlockQ5_0>(weights, cols, 32, blocks);
    case GgufType::Q5_1:
      return encode_blocks<BlockQ5_1>(weights, cols, 32, blocks);
    case GgufType::IQ4_NL:
      return encode_blocks<BlockIQ4_NL>(weights, cols, 32, blocks);
    case GgufType::Q2_K:
      return encode_blocks<BlockQ2_K>(weights, cols, 256, blocks);
    case GgufType::Q3_K:
      return encode_blocks<BlockQ3_K>(weights, cols, 256, blocks);
    case GgufType::Q4_K:
      return encode_blocks<BlockQ4_K>(weights, cols, 256, blocks);
    case GgufType::Q5_K:
      return encode_blocks<BlockQ5_K>(weights, cols, 256, blocks);
    case GgufType::Q6_K:
      return encode_blocks<BlockQ6_K>(weights, cols, 256, blocks);
  }
}

}  // namespace strata
