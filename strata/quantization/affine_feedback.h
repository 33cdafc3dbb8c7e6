#pragma once

#include <memory>

#include "strata/quantization/error_feedback.h"

namespace strata {

// make_column_rounder for affine schemes.
std::unique_ptr<ColumnRounder> make_affine_rounder(MatrixView<const float> weights, const Scheme& scheme,
                                                   const FeedbackOptions& options);

}  // namespace strata
