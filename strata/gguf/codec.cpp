#include "strata/gguf/codec.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/gguf/encoders.h"
#include "strata/gguf/fields.h"
#include "strata/gguf/grid_blocks.h"

namespace strata {
namespace {

constexpr int64_t weights_a_chunk = 1 << 16;

void decode(const BlockQ8_0& block, float* x) {
  const float d = half_to_float(block.d);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(block.codes[i]);
}

void decode(const BlockQ4_0& block, float* x) {
  uint8_t q[32];
  unpack_nibbles(block.codes, q);
  const float d = half_to_float(block.d);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(q[i] - 8);
}

void decode(const BlockQ4_1& block, float* x) {
  uint8_t q[32];
  unpack_nibbles(block.codes, q);
  const float d = half_to_float(block.d), m = half_to_float(block.m);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(q[i]) + m;
}

void decode(const BlockQ5_0& block, float* x) {
  uint8_t q[32];
  unpack_nibbles(block.codes, q);
  add_fifth_bits(block.high, q);
  const float d = half_to_float(block.d);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(q[i] - 16);
}

void decode(const BlockQ5_1& block, float* x) {
  uint8_t q[32];
  unpack_nibbles(block.codes, q);
  add_fifth_bits(block.high, q);
  const float d = half_to_float(block.d), m = half_to_float(block.m);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(q[i]) + m;
}

void decode(const BlockIQ4_NL& block, float* x) {
  uint8_t q[32];
  unpack_nibbles(block.codes, q);
  const float d = half_to_float(block.d);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(iq4_nl_values[q[i]]);
}

// x = d s (q - zero) - dmin m over sub-blocks of `size` weights.
template <int size>
void decode_fields(const SuperBlockFields& fields, int scale_offset, int zero, bool mins, float* x) {
  const float d = half_to_float(fields.d);
  const float dmin = mins ? half_to_float(fields.dmin) : 0.0f;
  for (int s = 0; s < 256 / size; ++s) {
    const float scale = d * static_cast<float>(fields.scales[s] - scale_offset);
    const float min = mins ? dmin * static_cast<float>(fields.mins[s]) : 0.0f;
    for (int i = s * size; i < (s + 1) * size; ++i)
      x[i] = scale * static_cast<float>(fields.codes[i] - zero) - min;
  }
}

void decode(const BlockQ2_K& block, float* x) {
  SuperBlockFields fields;
  unpack(block, fields);
  decode_fields<16>(fields, 0, 0, true, x);
}

void decode(const BlockQ3_K& block, float* x) {
  SuperBlockFields fields;
  unpack(block, fields);
  decode_fields<16>(fields, 32, 4, false, x);
}

void decode(const BlockQ4_K& block, float* x) {
  SuperBlockFields fields;
  unpack(block, fields);
  decode_fields<32>(fields, 0, 0, true, x);
}

void decode(const BlockQ5_K& block, float* x) {
  SuperBlockFields fields;
  unpack(block, fields);
  decode_fields<32>(fields, 0, 0, true, x);
}

void decode(const BlockQ6_K& block, float* x) {
  SuperBlockFields fields;
  unpack(block, fields);
  decode_fields<16>(fields, 0, 32, false, x);
}

void decode(const BlockIQ4_XS& block, float* x) {
  SuperBlockFields fields;
  unpack(block, fields);
  const float d = half_to_float(fields.d);
  for (int i = 0; i < 256; ++i) {
    const float scale = d * static_cast<float>(fields.scales[i / 32] - 32);
    x[i] = scale * static_cast<float>(iq4_nl_values[fields.codes[i]]);
  }
}

void decode_grids(GgufType type, const std::byte* bytes, int64_t n, float* weights) {
  const int64_t size = traits_of(type).block_bytes;
  for (int64_t i = 0; i < n; i += 256)
    decode_grid(type, reinterpret_cast<const uint8_t*>(bytes) + i / 256 * size, weights + i);
}

template <class Block>
void decode_blocks(const std::byte* bytes, int64_t n, int block_elements, float* weights) {
  for (int64_t i = 0; i < n; i += block_elements, bytes += sizeof(Block)) {
    Block block;
    std::memcpy(&block, bytes, sizeof(Block));
    decode(block, weights + i);
  }
}

void decode_chunk(GgufType type, const std::byte* blocks, int64_t n, float* weights) {
  switch (type) {
    case GgufType::F32:
      return to_float(DType::F32, blocks, weights, n);
    case GgufType::F16:
      return to_float(DType::F16, blocks, weights, n);
    case GgufType::BF16:
      return to_float(DType::BF16, blocks, weights, n);
    case GgufType::Q8_0:
      return decode_blocks<BlockQ8_0>(blocks, n, 32, weights);
    case GgufType::Q4_0:
      return decode_blocks<BlockQ4_0>(blocks, n, 32, weights);
    case GgufType::Q4_1:
      return decode_blocks<BlockQ4_1>(blocks, n, 32, weights);
    case GgufType::Q5_0:
      return decode_blocks<BlockQ5_0>(blocks, n, 32, weights);
    case GgufType::Q5_1:
      return decode_blocks<BlockQ5_1>(blocks, n, 32, weights);
    case GgufType::IQ4_NL:
      return decode_blocks<BlockIQ4_NL>(blocks, n, 32, weights);
    case GgufType::Q2_K:
      return decode_blocks<BlockQ2_K>(blocks, n, 256, weights);
    case GgufType::Q3_K:
      return decode_blocks<BlockQ3_K>(blocks, n, 256, weights);
    case GgufType::Q4_K:
      return decode_blocks<BlockQ4_K>(blocks, n, 256, weights);
    case GgufType::Q5_K:
      return decode_blocks<BlockQ5_K>(blocks, n, 256, weights);
    case GgufType::Q6_K:
      return decode_blocks<BlockQ6_K>(blocks, n, 256, weights);
    case GgufType::IQ4_XS:
      return decode_blocks<BlockIQ4_XS>(blocks, n, 256, weights);
    case GgufType::IQ2_XXS:
    case GgufType::IQ2_XS:
    case GgufType::IQ2_S:
    case GgufType::IQ3_XXS:
    case GgufType::IQ3_S:
      return decode_grids(type, blocks, n, weights);
    default:
      fail("the type {} cannot be decoded; it can only be copied", traits_of(type).name);
  }
}

}  // namespace

void encode_gguf(GgufType type, const float* weights, int64_t rows, int64_t cols, const float* importance,
                 std::byte* blocks) {
  const int64_t bytes = row_bytes(type, cols);
  if (rows <= 0 || cols <= 0) return;
  const int64_t grain = std::max<int64_t>(1, weights_a_chunk / cols);
  const std::vector<float> arranged = arrange_importance(type, importance, cols);
  const float* row_importance = arranged.empty() ? nullptr : arranged.data();
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      encode_row(type, weights + row * cols, cols, row_importance, blocks + row * bytes);
  });
}

void decode_gguf(GgufType type, const std::byte* blocks, int64_t n, float* weights) {
  row_bytes(type, n);  // throws for an n that the block size does not divide
  const GgufTypeTraits& traits = traits_of(type);
  parallel_for(n, weights_a_chunk, [&](int64_t begin, int64_t end) {
    decode_chunk(type, blocks + begin / traits.block_elements * traits.block_bytes, end - begin,
                 weights + begin);
  });
}

}  // namespace strata
