#include "strata/gguf/encoders.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/gguf/fields.h"
#include "strata/gguf/grid_blocks.h"
#include "strata/gguf/grid_encoders.h"
#include "strata/gguf/tuning.h"

// AVX2 and the machine's baseline (SSE2, NEON) are enough: the encoders take eight sub-blocks at a time.
#include <hwy/detect_targets.h>
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "strata/gguf/encoders.cpp"
#include <hwy/foreach_target.h>

#include "strata/gguf/superblock-inl.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {

template <class Block>
void write_block(const Block& block, std::byte* bytes, int64_t index) {
  std::memcpy(bytes + index * static_cast<int64_t>(sizeof(Block)), &block, sizeof(Block));
}

// ---- blocks of 32, eight at a time ----

struct alignas(64) EightValues {
  float at[lane_count];
};

// Calls find(Column, first lane) for the columns of eight blocks.
template <bool weighted, class Find>
HWY_INLINE void for_eight_blocks(float* lanes, const float* weight_lanes, const Find& find) {
  for (int s = 0; s < lane_count; s += column_width)
    find(Column<weighted>{lanes + s, weighted ? weight_lanes + s : nullptr, 32}, s);
}

// Calls encode(weights of eight blocks, their importance, number of blocks present, first block's index).
template <class Encode>
HWY_INLINE void for_groups(const float* weights, int64_t cols, const float* importance,
                           const Encode& encode) {
  constexpr int64_t group = 32 * lane_count;
  for (int64_t i = 0; i < cols; i += group) {
    const float* group_importance = importance ? importance + i : nullptr;
    const int present = static_cast<int>(std::min(group, cols - i) / 32);
    if (present == lane_count) {
      encode(weights + i, group_importance, present, i / 32);
    } else {
      float padded[group] = {};
      std::copy(weights + i, weights + cols, padded);
      encode(padded, group_importance, present, i / 32);
    }
  }
}

template <bool weighted, class Levels>
HWY_INLINE void search_scales(const float* weights, const float* importance, const Levels& levels,
                              const CandidateLevels& candidates, EightValues& scales) {
  alignas(64) float lanes[256];
  to_lanes(weights, 32, lanes);
  for_eight_blocks<weighted>(lanes, importance, [&](const Column<weighted>& column, int s) HWY_ATTR {
    store(round_to_half(search_scale(column, levels, candidates)), scales.at + s);
  });
}

// Eight blocks' scales by symmetric search, then write(weights, d, inverse of d, block) for each block.
template <class Block, class Levels, class Write>
HWY_INLINE void encode_scaled(const float* weights, int64_t cols, const float* importance,
                              const Levels& levels, const Choice<CandidateLevels>& candidates,
                              std::byte* bytes, const Write& write) {
  for_groups(weights, cols, importance,
             [&](const float* x, const float* w, int present, int64_t first) HWY_ATTR {
               EightValues scales;
               if (w)
                 search_scales<true>(x, w, levels, candidates(true), scales);
               else
                 search_scales<false>(x, w, levels, candidates(false), scales);
               uint16_t stored_d[lane_count];
               to_half_bits(scales.at, stored_d);
               for (int s = 0; s < present; ++s) {
                 const float d = scales.at[s];
                 Block block;
                 block.d = stored_d[s];
                 write(x + 32 * s, d != 0 ? 1 / d : 0, block);
                 write_block(block, bytes, first + s);
               }
             });
}

struct AffineFits {
  EightValues scales, offsets;
};

template <bool weighted>
HWY_INLINE void search_affine_fits(const float* weights, const float* importance, float largest_code,
                                   const CandidateEnds& candidates, AffineFits& fits) {
  alignas(64) float lanes[256];
  to_lanes(weights, 32, lanes);
  for_eight_blocks<weighted>(lanes, importance, [&](const Column<weighted>& column, int s) HWY_ATTR {
    const Vec total_weight = column.total_weight();
    const CentredRange range = centre(column, lanes + s, total_weight);
    const AffineFit fit = search_affine(column, largest_code, range, total_weight, false, candidates);
    // Where the scale is too small for fp16, the offset stands for the whole block.
    const Vec d = round_to_half(fit.a);
    store(d, fits.scales.at + s);
    store(round_to_half(hn::IfThenElse(hn::Eq(d, zero()), range.mean, fit.b)), fits.offsets.at + s);
  });
}

template <class Block, class Pack>
HWY_INLINE void encode_offset(const float* weights, int64_t cols, const float* importance, float largest_code,
                              const Choice<CandidateEnds>& candidates, std::byte* bytes,
                              const Pack& pack_codes) {
  for_groups(weights, cols, importance,
             [&](const float* x, const float* w, int present, int64_t first) HWY_ATTR {
               AffineFits fits;
               if (w)
                 search_affine_fits<true>(x, w, largest_code, candidates(true), fits);
               else
                 search_affine_fits<false>(x, w, largest_code, candidates(false), fits);
               uint16_t stored_d[lane_count], stored_m[lane_count];
               to_half_bits(fits.scales.at, stored_d);
               to_half_bits(fits.offsets.at, stored_m);
               for (int s = 0; s < present; ++s) {
                 const float d = fits.scales.at[s], m = fits.offsets.at[s];
                 Block block;
                 block.d = stored_d[s];
                 block.m = stored_m[s];
                 uint8_t codes[32];
                 write_codes(x + 32 * s, 32, -m, d != 0 ? 1 / d : 0, 0, largest_code, codes);
                 pack_codes(codes, block);
                 write_block(block, bytes, first + s);
               }
             });
}

void encode_blocks_of_32(GgufType type, const float* weights, int64_t cols, const float* importance,
                         std::byte* bytes) {
  switch (type) {
    case GgufType::Q8_0:
      return encode_scaled<BlockQ8_0>(weights, cols, importance, NearestLevels{}, tuning::q8_0, bytes,
                                      [](const float* x, float inverse, BlockQ8_0& block) HWY_ATTR {
                                        uint8_t codes[32];
                                        write_codes(x, 32, 0, inverse, -127, 127, codes);
                                        for (int i = 0; i < 32; ++i)
                                          block.codes[i] = static_cast<int8_t>(codes[i] - 127);
                                      });
    case GgufType::Q4_0:
      return encode_scaled<BlockQ4_0>(weights, cols, importance, UniformLevels{-8, 7}, tuning::q4_0, bytes,
                                      [](const float* x, float inverse, BlockQ4_0& block) HWY_ATTR {
                                        uint8_t codes[32];
                                        write_codes(x, 32, 0, inverse, -8, 7, codes);
                                        pack_nibbles(codes, block.codes);
                                      });
    case GgufType::Q5_0:
      return encode_scaled<BlockQ5_0>(weights, cols, importance, UniformLevels{-16, 15}, tuning::q5_0, bytes,
                                      [](const float* x, float inverse, BlockQ5_0& block) HWY_ATTR {
                                        uint8_t codes[32];
                                        write_codes(x, 32, 0, inverse, -16, 15, codes);
                                        pack_nibbles(codes, block.codes);
                                        pack_fifth_bits(codes, block.high);
                                      });
    case GgufType::IQ4_NL:
      return encode_scaled<BlockIQ4_NL>(weights, cols, importance, Iq4NlLevels{}, tuning::iq4_nl, bytes,
                                        [](const float* x, float inverse, BlockIQ4_NL& block) HWY_ATTR {
                                          uint8_t codes[32];
                                          write_iq4_nl_codes(x, 32, inverse, codes);
                                          pack_nibbles(codes, block.codes);
                                        });
    case GgufType::Q4_1:
      return encode_offset<BlockQ4_1>(
          weights, cols, importance, 15, tuning::q4_1, bytes,
          [](const uint8_t* codes, BlockQ4_1& block) { pack_nibbles(codes, block.codes); });
    default:  // Q5_1
      return encode_offset<BlockQ5_1>(weights, cols, importance, 31, tuning::q5_1, bytes,
                                      [](const uint8_t* codes, BlockQ5_1& block) {
                                        pack_nibbles(codes, block.codes);
                                        pack_fifth_bits(codes, block.high);
                                      });
  }
}

// ---- blocks of 256 ----

template <class Block, class Encode>
HWY_INLINE void encode_super_blocks(const float* weights, int64_t cols, const float* importance,
                                    std::byte* bytes, const Encode& encode) {
  for (int64_t i = 0; i < cols; i += 256) {
    SuperBlockFields fields;
    encode(weights + i, importance ? importance + i : nullptr, fields);
    Block block;
    pack(fields, block);
    write_block(block, bytes, i / 256);
  }
}

template <bool weighted>
void encode_blocks_of_256(GgufType type, const float* weights, int64_t cols, const float* importance,
                          std::byte* bytes) {
  const auto symmetric = [](const SymmetricTuning& tuning) {
    return [&tuning](const float* x, const float* w, SuperBlockFields& fields) HWY_ATTR {
      const auto write = [&tuning](const float* part, int n, float inverse, uint8_t* codes)
                             HWY_ATTR { write_codes(part, n, 0, inverse, tuning.low, tuning.high, codes); };
      encode_symmetric<weighted, 16>(tuning, UniformLevels{tuning.low, tuning.high}, write, x, w, fields);
    };
  };
  const auto iq4_xs = [](const float* x, const float* w, SuperBlockFields& fields) HWY_ATTR {
    encode_symmetric<weighted, 8>(tuning::iq4_xs, Iq4NlLevels{}, write_iq4_nl_codes, x, w, fields);
  };
  const auto of_32 = [](const AffineTuning& tuning) {
    return [&tuning](const float* x, const float* w, SuperBlockFields& fields)
               HWY_ATTR { encode_affine<weighted, 8>(tuning, x, w, fields); };
  };
  switch (type) {
    case GgufType::Q2_K:
      return encode_super_blocks<BlockQ2_K>(
          weights, cols, importance, bytes,
          [](const float* x, const float* w, SuperBlockFields& fields)
              HWY_ATTR { encode_affine<weighted, 16>(tuning::q2_k, x, w, fields); });
    case GgufType::Q3_K:
      return encode_super_blocks<BlockQ3_K>(weights, cols, importance, bytes, symmetric(tuning::q3_k));
    case GgufType::IQ4_XS:
      return encode_super_blocks<BlockIQ4_XS>(weights, cols, importance, bytes, iq4_xs);
    case GgufType::Q4_K:
      return encode_super_blocks<BlockQ4_K>(weights, cols, importance, bytes, of_32(tuning::q4_k));
    case GgufType::Q5_K:
      return encode_super_blocks<BlockQ5_K>(weights, cols, importance, bytes, of_32(tuning::q5_k));
    default:  // Q6_K
      return encode_super_blocks<BlockQ6_K>(weights, cols, importance, bytes, symmetric(tuning::q6_k));
  }
}

void encode_in_blocks(GgufType type, const float* weights, int64_t cols, const float* importance,
                      std::byte* bytes) {
  if (traits_of(type).block_elements == 32)
    encode_blocks_of_32(type, weights, cols, importance, bytes);
  else if (importance)
    encode_blocks_of_256<true>(type, weights, cols, importance, bytes);
  else
    encode_blocks_of_256<false>(type, weights, cols, importance, bytes);
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace strata {
namespace {

HWY_EXPORT(encode_in_blocks);

// Weights of one sub-block lie together; which sub-blocks stand side by side is up to gguf_lanes-inl.h.
int sub_block_size(GgufType type) {
  return type == GgufType::Q2_K || type == GgufType::Q3_K || type == GgufType::Q6_K ? 16 : 32;
}

float usable(float importance) {
  return importance > 0 ? std::min(importance, 1e30f) : 0.0f;
}

// Weights that 16-bit storage would turn into infinities are stored as its largest numbers.
void encode_16_bits(DType type, const float* weights, int64_t cols, std::byte* bytes) {
  const float largest = type == DType::F16 ? 65504.0f : 0x1.FEp127f;
  float bounded[256];
  for (int64_t i = 0; i < cols; i += 256) {
    const int64_t count = std::min<int64_t>(256, cols - i);
    for (int64_t k = 0; k < count; ++k) bounded[k] = std::clamp(weights[i + k], -largest, largest);
    from_float(type, bounded, bytes + 2 * i, count);
  }
}

}  // namespace

std::vector<float> arrange_importance(GgufType type, const float* importance, int64_t cols) {
  if (!importance || traits_of(type).block_elements == 1) return {};
  const int size = sub_block_size(type);
  const int normalised = traits_of(type).block_elements;
  std::vector<float> arranged(static_cast<size_t>((cols + 255) / 256 * 256), 1.0f);
  for (int64_t block = 0; block < cols; block += normalised) {
    double total = 0;
    for (int64_t i = block; i < block + normalised; ++i) total += usable(importance[i]);
    const double scale = total > 0 ? normalised / total : 0;
    for (int64_t i = block; i < block + normalised; ++i) {
      // The small constant decides among codes that the importance leaves open.
      const double weight = usable(importance[i]) * scale + 1e-6;
      if (is_grid_type(type)) {
        arranged[static_cast<size_t>(i)] = static_cast<float>(weight);
        continue;
      }
      const int64_t group = i / (8 * size) * (8 * size), sub_block = (i - group) / size;
      arranged[static_cast<size_t>(group + 8 * (i % size) + sub_block)] = static_cast<float>(weight);
    }
  }
  return arranged;
}

void encode_row(GgufType type, const float* weights, int64_t cols, const float* arranged_importance,
                std::byte* blocks) {
  switch (type) {
    case GgufType::F32:
      return from_float(DType::F32, weights, blocks, cols);
    case GgufType::F16:
      return encode_16_bits(DType::F16, weights, cols, blocks);
    case GgufType::BF16:
      return encode_16_bits(DType::BF16, weights, cols, blocks);
    case GgufType::IQ2_XXS:
    case GgufType::IQ2_XS:
    case GgufType::IQ2_S:
    case GgufType::IQ3_XXS:
    case GgufType::IQ3_S:
      return encode_grid_row(type, weights, cols, arranged_importance, blocks);
    default:
      if (!is_coded(type)) fail("the type {} cannot be encoded; it can only be copied", traits_of(type).name);
      HWY_DYNAMIC_DISPATCH(encode_in_blocks)(type, weights, cols, arranged_importance, blocks);
  }
}

}  // namespace strata
#endif
