#include "strata/gguf/search.h"

#include "strata/gguf/blocks_of_32.h"
#include "strata/gguf/super_blocks.h"

// AVX2 and the machine's baseline (SSE2, NEON) are enough: the encoders take eight sub-blocks at a time.
#include <hwy/detect_targets.h>
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "strata/gguf/search.cpp"
#include <hwy/foreach_target.h>

#include "strata/gguf/superblock-inl.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {

struct alignas(64) EightValues {
  float at[lane_count];
};

// Calls find(Column, first lane) for the columns of eight blocks.
template <bool weighted, class Find>
HWY_INLINE void for_eight_blocks(float* lanes, const float* weight_lanes, const Find& find) {
  for (int s = 0; s < lane_count; s += column_width)
    find(Column<weighted>{lanes + s, weighted ? weight_lanes + s : nullptr, 32}, s);
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

// x ~ d q.
template <bool weighted, class Levels>
void search_scaled(const Levels& levels, const CandidateLevels& candidates, const float* weights,
                   const float* importance, FieldsOf32* blocks) {
  EightValues scales;
  search_scales<weighted>(weights, importance, levels, candidates, scales);
  uint16_t stored_d[lane_count];
  to_half_bits(scales.at, stored_d);
  for (int s = 0; s < lane_count; ++s) {
    const float d = scales.at[s];
    blocks[s].d = stored_d[s];
    levels.write(weights + 32 * s, 32, d != 0 ? 1 / d : 0, blocks[s].codes);
  }
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

// x ~ d q + m.
template <bool weighted>
void search_offset(float largest_code, const CandidateEnds& candidates, const float* weights,
                   const float* importance, FieldsOf32* blocks) {
  AffineFits fits;
  search_affine_fits<weighted>(weights, importance, largest_code, candidates, fits);
  uint16_t stored_d[lane_count], stored_m[lane_count];
  to_half_bits(fits.scales.at, stored_d);
  to_half_bits(fits.offsets.at, stored_m);
  for (int s = 0; s < lane_count; ++s) {
    const float d = fits.scales.at[s], m = fits.offsets.at[s];
    blocks[s].d = stored_d[s];
    blocks[s].m = stored_m[s];
    write_codes(weights + 32 * s, 32, -m, d != 0 ? 1 / d : 0, 0, largest_code, blocks[s].codes);
  }
}

// ---- from what the types say to the templates ----

// Calls search with the levels of a type.
template <class Search>
HWY_INLINE void with_levels(const CodeLevels& levels, bool in_range, const Search& search) {
  const auto low = static_cast<float>(-levels.zero), high = static_cast<float>(levels.largest - levels.zero);
  if (levels.values)
    search(Iq4NlLevels{});
  else if (in_range)
    search(NearestLevels{low, high});
  else
    search(UniformLevels{low, high});
}

void scaled_blocks(const CodeLevels& levels, const ScaleTuning& tuning, const float* weights,
                   const float* importance, FieldsOf32* blocks) {
  const CandidateLevels& candidates = tuning.candidates(importance != nullptr);
  with_levels(levels, tuning.in_range, [&](const auto& lanes) HWY_ATTR {
    if (importance)
      search_scaled<true>(lanes, candidates, weights, importance, blocks);
    else
      search_scaled<false>(lanes, candidates, weights, importance, blocks);
  });
}

void offset_blocks(const CodeLevels& levels, const OffsetTuning& tuning, const float* weights,
                   const float* importance, FieldsOf32* blocks) {
  const CandidateEnds& candidates = tuning.candidates(importance != nullptr);
  const auto largest = static_cast<float>(levels.largest);
  if (importance)
    search_offset<true>(largest, candidates, weights, importance, blocks);
  else
    search_offset<false>(largest, candidates, weights, importance, blocks);
}

template <int sub_blocks>
void symmetric_block_of(const CodeLevels& levels, const SymmetricTuning& tuning, const float* weights,
                        const float* importance, SuperBlockFields& fields) {
  with_levels(levels, false, [&](const auto& lanes) HWY_ATTR {
    if (importance)
      encode_symmetric<true, sub_blocks>(tuning, lanes, weights, importance, fields);
    else
      encode_symmetric<false, sub_blocks>(tuning, lanes, weights, importance, fields);
  });
}

void symmetric_block(const CodeLevels& levels, int sub_block, const SymmetricTuning& tuning,
                     const float* weights, const float* importance, SuperBlockFields& fields) {
  if (sub_block == 16)
    symmetric_block_of<16>(levels, tuning, weights, importance, fields);
  else
    symmetric_block_of<8>(levels, tuning, weights, importance, fields);
}

template <int sub_blocks>
void affine_block_of(const CodeLevels& levels, const AffineTuning& tuning, const float* weights,
                     const float* importance, SuperBlockFields& fields) {
  const UniformLevels lanes{0, static_cast<float>(levels.largest)};
  if (importance)
    encode_affine<true, sub_blocks>(tuning, lanes, weights, importance, fields);
  else
    encode_affine<false, sub_blocks>(tuning, lanes, weights, importance, fields);
}

void affine_block(const CodeLevels& levels, int sub_block, const AffineTuning& tuning, const float* weights,
                  const float* importance, SuperBlockFields& fields) {
  if (sub_block == 16)
    affine_block_of<16>(levels, tuning, weights, importance, fields);
  else
    affine_block_of<8>(levels, tuning, weights, importance, fields);
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace strata {
namespace {

HWY_EXPORT(scaled_blocks);
HWY_EXPORT(offset_blocks);
HWY_EXPORT(symmetric_block);
HWY_EXPORT(affine_block);

}  // namespace

void search_eight_blocks(const CodeLevels& levels, const ScaleTuning& tuning, const float* weights,
                         const float* importance, FieldsOf32* blocks) {
  HWY_DYNAMIC_DISPATCH(scaled_blocks)(levels, tuning, weights, importance, blocks);
}

void search_eight_blocks(const CodeLevels& levels, const OffsetTuning& tuning, const float* weights,
                         const float* importance, FieldsOf32* blocks) {
  HWY_DYNAMIC_DISPATCH(offset_blocks)(levels, tuning, weights, importance, blocks);
}

void search_super_block(const CodeLevels& levels, int sub_block, const SymmetricTuning& tuning,
                        const float* weights, const float* importance, SuperBlockFields& fields) {
  HWY_DYNAMIC_DISPATCH(symmetric_block)(levels, sub_block, tuning, weights, importance, fields);
}

void search_super_block(const CodeLevels& levels, int sub_block, const AffineTuning& tuning,
                        const float* weights, const float* importance, SuperBlockFields& fields) {
  HWY_DYNAMIC_DISPATCH(affine_block)(levels, sub_block, tuning, weights, importance, fields);
}

}  // namespace strata
#endif
