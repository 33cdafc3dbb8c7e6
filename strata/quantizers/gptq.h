#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "strata/core/matrix.h"
#include "strata/core/options.h"
#include "strata/quantization/error_feedback.h"

namespace strata {

// In which order the columns of a matrix are quantized, and what that does to affine groups.
enum class ActOrder {
  Off,       // left to right
  Static,    // largest input first; groups of neighbouring columns, their scales decided beforehand
  Reordered  // largest input first; groups follow that order, which needs AffineMatrix::group_of_column
};

struct GptqOptions {
  double damping = 0.01;  // added to the diagonal of H, as a part of its mean
  ActOrder act_order = ActOrder::Off;
  GroupScales scales = GroupScales::AsReached;  // without act-order
};

Options gptq_options(OptionValues& values);

// What GPTQ needs to know of a matrix's inputs. Matrices that read the same input share it.
struct InverseFactor {
  at::Tensor upper;                   // U [cols, cols], float on the device: (H + damping)^-1 = U^T U
  std::vector<int64_t> order;         // of the columns in U; empty = left to right
  std::vector<float> column_weights;  // 1 / U_kk^2 by column, with mean one
};

// Factors the inverse of `second_moments` H = sum x x^T [cols, cols] (symmetric, any floating type; H and c H
// are the same to GPTQ), on H's device, in double precision. Inputs that were never seen get the damping
// alone; damping grows tenfold, at most six times, where H is too close to singular. Throws where H is not
// finite.
InverseFactor factor_inverse(const at::Tensor& second_moments, const GptqOptions& options);

// GPTQ (Frantar et al. 2022, arXiv 2210.17323): rounds W [rows, cols] column by column so that
// trace((W - W') H (W - W')^T) stays low, later columns making up for the errors of earlier ones. Blocks of
// columns are rounded on the CPU; their errors reach the columns after the block in one product on U's
// device. Scales are chosen by search, weighed with 1 / U_kk^2, which is what an error that is left in column
// k costs once the columns after it have made up for it. NF4, which is there for comparison, rounds to
// nearest. Rows do not touch each other, so that those of high and of low bits are quantized apart; which
// they are is said by `row_impact` (rows values), or else by choose_high_rows for round-to-nearest. Throws as
// make_column_rounder does.
QuantizedMatrix gptq(MatrixView<const float> weights, const InverseFactor& factor, const Scheme& scheme,
                     const GptqOptions& options, const float* row_impact = nullptr);

}  // namespace strata
