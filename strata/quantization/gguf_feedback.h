#pragma once

#include <memory>

#include "strata/quantization/error_feedback.h"

namespace strata {

// make_column_rounder for GGUF types: a block's scales come from the encoders' search over its weights as
// they stand when its first column is reached, weighed by the columns' weights; its codes are then rounded
// column by column. Types whose weights have no codes of their own (the IQ types but IQ4_NL) are encoded a
// block at a time, and the columns after the block make up for its error. Types without blocks (F16, BF16,
// F32) round each weight by itself.
std::unique_ptr<ColumnRounder> make_gguf_rounder(MatrixView<const float> weights, const Scheme& scheme,
                                                 const FeedbackOptions& options);

}  // namespace strata
