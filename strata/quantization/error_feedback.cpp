// Spreading of errors, compiled for every vector instruction set and chosen when the program runs.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "strata/quantization/error_feedback.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include "strata/core/error.h"
#include "strata/quantization/affine_feedback.h"
#include "strata/quantization/affine_tile.h"
#include "strata/quantization/error_feedback.h"
#include "strata/quantization/gguf_feedback.h"

HWY_BEFORE_NAMESPACE();
namespace strata {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void SpreadErrors(const float* errors, const float* factor, int64_t count, float* values) {
  const hn::CappedTag<float, kTileGroups> d;
  for (size_t lane = 0; lane < kTileGroups; lane += hn::Lanes(d)) {
    const auto error = hn::LoadU(d, errors + lane);
    for (int64_t k = 0; k < count; ++k) {
      float* at = values + k * kTileGroups + lane;
      hn::StoreU(hn::NegMulAdd(error, hn::Set(d, factor[k]), hn::LoadU(d, at)), d, at);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace strata
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace strata {

HWY_EXPORT(SpreadErrors);

void spread_errors(const float errors[16], const float* factor, int64_t count, float* values) {
  HWY_DYNAMIC_DISPATCH(SpreadErrors)(errors, factor, count, values);
}

std::unique_ptr<ColumnRounder> make_column_rounder(MatrixView<const float> weights, const Scheme& scheme,
                                                   const FeedbackOptions& options) {
  if (scheme.kind == Scheme::Kind::Affine) return make_affine_rounder(weights, scheme, options);
  if (scheme.kind == Scheme::Kind::MixedRows)
    fail("the rows of {} at high bits and the others must be rounded apart", scheme.name());
  return make_gguf_rounder(weights, scheme, options);
}

}  // namespace strata
#endif  // HWY_ONCE
