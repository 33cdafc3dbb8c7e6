#include "strata/quantizers/gptq.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <memory>
#include <tuple>

#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/device/device.h"

namespace strata {
namespace {

constexpr int64_t kInvertedWhole = 64;  // triangles up to this size are inverted by substitution

// In products of up to so many columns the threads of a BLAS would only wait for each other.
constexpr int64_t kSmall = 1024;

std::unique_ptr<BlasThreads> one_thread_for_small(int64_t cols) {
  use_threads();
  return cols <= kSmall ? std::make_unique<BlasThreads>(1) : nullptr;
}

// Replaces a lower triangular L by its inverse, by halves: the products take all the time.
//   [A 0; B C]^-1 = [A^-1 0; -C^-1 B A^-1, C^-1]
void invert_lower(at::Tensor lower) {
  const int64_t n = lower.size(0), half = n / 2;
  if (n <= kInvertedWhole) {
    lower.copy_(at::linalg_solve_triangular(lower, at::eye(n, lower.options()), /*upper=*/false));
    return;
  }
  at::Tensor a = lower.narrow(0, 0, half).narrow(1, 0, half);
  at::Tensor b = lower.narrow(0, half, n - half).narrow(1, 0, half);
  at::Tensor c = lower.narrow(0, half, n - half).narrow(1, half, n - half);
  invert_lower(a);
  invert_lower(c);
  b.copy_(at::mm(c, at::mm(b, a)).neg_());
}

std::vector<int64_t> by_falling_diagonal(const at::Tensor& diagonal) {
  const at::Tensor order = std::get<1>(at::sort(diagonal, /*stable=*/true, 0, /*descending=*/true)).cpu();
  return {order.data_ptr<int64_t>(), order.data_ptr<int64_t>() + order.numel()};
}

// The Cholesky factor of the damped H with rows and columns reversed.
at::Tensor reversed_cholesky(const at::Tensor& reversed, double damping) {
  constexpr int kTries = 7;
  const at::Tensor diagonal = reversed.diagonal();
  const double mean = diagonal.mean().item<double>();
  if (!(mean > 0)) return at::eye(reversed.size(0), reversed.options());  // no input was ever seen
  for (int attempt = 0; attempt < kTries; ++attempt, damping = std::max(10 * damping, 1e-6)) {
    at::Tensor damped = reversed.clone();
    damped.diagonal().add_(damping * mean);
    const auto [lower, info] = at::linalg_cholesky_ex(damped);
    if (info.item<int64_t>() == 0) return lower;
  }
  fail("GPTQ cannot factor the second moments of an input of {} features, even with a damping of {}",
       reversed.size(0), damping / 10);
}

std::vector<float> column_weights(const at::Tensor& upper, const std::vector<int64_t>& order) {
  const at::Tensor weights = upper.diagonal().to(at::kDouble).pow(-2).cpu();
  const double mean = weights.mean().item<double>();
  std::vector<float> of_columns(static_cast<size_t>(weights.numel()));
  for (size_t place = 0; place < of_columns.size(); ++place)
    of_columns[order.empty() ? place : static_cast<size_t>(order[place])] =
        static_cast<float>(weights.data_ptr<double>()[place] / mean);
  return of_columns;
}

at::Tensor weights_in_order(MatrixView<const float> weights, const InverseFactor& factor) {
  at::Tensor w = at::empty({weights.rows, weights.cols}, at::kFloat);
  std::copy_n(weights.data, weights.size(), w.data_ptr<float>());
  if (!factor.order.empty()) w = w.index_select(1, at::tensor(factor.order, at::kLong));
  return w.to(factor.upper.device());
}

QuantizedMatrix gptq_mixed_rows(MatrixView<const float> weights, const InverseFactor& factor,
                                const Scheme& scheme, const GptqOptions& options, const float* row_impact) {
  QuantizerOptions nearest;
  nearest.name = "rtn";
  nearest.row_impact = row_impact;
  QuantizedMatrix matrix;
  matrix.scheme = scheme;
  matrix.rows = weights.rows;
  matrix.cols = weights.cols;
  matrix.mixed = quantize_rows_apart(weights, scheme, choose_high_rows(weights, scheme, nearest),
                                     [&](MatrixView<const float> rows, const AffineScheme& affine) {
                                       Scheme plain;
                                       plain.affine = affine;
                                       return gptq(rows, factor, plain, options).affine;
                                     });
  return matrix;
}

}  // namespace

Options gptq_options(OptionValues& values) {
  GptqOptions& gptq = values.get<GptqOptions>();
  return {
      choice("act-order", gptq.act_order,
             {{"off", ActOrder::Off}, {"static", ActOrder::Static}, {"reordered", ActOrder::Reordered}},
             "quantize columns by falling input size: off; static, with groups of neighbouring columns; "
             "reordered, with groups in that order, for formats that hold an index of groups (gptq, hf)"),
      choice("gptq-scales", gptq.scales,
             {{"as-reached", GroupScales::AsReached}, {"static", GroupScales::Static}},
             "when a group's scale is decided: as-reached, from weights that make up for the errors before; "
             "static, from the weights as they were"),
      number("damping", gptq.damping, 0.0, 10.0,
             "added to the second moments' diagonal, as a part of its mean")};
}

InverseFactor factor_inverse(const at::Tensor& second_moments, const GptqOptions& options) {
  const at::NoGradGuard no_grad;
  if (second_moments.dim() != 2 || second_moments.size(0) != second_moments.size(1))
    fail("second moments of shape {} were given; a square matrix was expected",
         c10::str(second_moments.sizes()));
  const auto one_thread = one_thread_for_small(second_moments.size(0));
  at::Tensor h = second_moments.to(at::kDouble);
  if (!at::isfinite(h).all().item<bool>())
    fail(
        "the second moments of an input of {} features are not finite; the calibration text makes the model "
        "overflow",
        h.size(0));
  InverseFactor factor;
  if (options.act_order != ActOrder::Off) {
    factor.order = by_falling_diagonal(h.diagonal());
    const at::Tensor index = at::tensor(factor.order, at::kLong).to(h.device());
    h = h.index_select(0, index).index_select(1, index);
  }
  // With J the reversal, J H J = L L^T gives H = R R^T for the upper triangular R = J L J, so that
  // H^-1 = U^T U with U = R^-1 = J L^-1 J: one factorization, and never an explicit inverse of H.
  at::Tensor lower = reversed_cholesky(h.flip({0, 1}), options.damping).contiguous();
  h.reset();
  invert_lower(lower);
  const at::Tensor upper = lower.flip({0, 1});
  factor.column_weights = column_weights(upper, factor.order);
  factor.upper = upper.to(at::kFloat).contiguous();
  return factor;
}

QuantizedMatrix gptq(MatrixView<const float> weights, const InverseFactor& factor, const Scheme& scheme,
                     const GptqOptions& options, const float* row_impact) {
  const at::NoGradGuard no_grad;
  if (factor.upper.size(0) != weights.cols)
    fail("a matrix of {} columns was given with second moments of {} features", weights.cols,
         factor.upper.size(0));
  if (scheme.kind == Scheme::Kind::Nf4) return quantize_matrix(weights, scheme, {});
  if (scheme.kind == Scheme::Kind::MixedRows)
    return gptq_mixed_rows(weights, factor, scheme, options, row_impact);
  const auto one_thread = one_thread_for_small(weights.cols);
  FeedbackOptions feedback;
  feedback.order = factor.order;
  feedback.column_weights = factor.column_weights;
  feedback.scales = options.act_order == ActOrder::Static ? GroupScales::Static : options.scales;
  const std::unique_ptr<ColumnRounder> rounder = make_column_rounder(weights, scheme, feedback);

  at::Tensor w = weights_in_order(weights, factor);
  for (int64_t first = 0; first < weights.cols; first += rounder->block_size()) {
    const int64_t count = std::min(rounder->block_size(), weights.cols - first), end = first + count;
    const at::Tensor rows_of_factor = factor.upper.narrow(0, first, count);
    const at::Tensor block = w.narrow(1, first, count).cpu().contiguous();
    const at::Tensor block_factor = rows_of_factor.narrow(1, first, count).cpu().contiguous();
    const at::Tensor errors = at::empty_like(block);
    FeedbackBlock feedback_block;
    feedback_block.first = first;
    feedback_block.count = count;
    feedback_block.weights = block.data_ptr<float>();
    feedback_block.factor = block_factor.data_ptr<float>();
    feedback_block.errors = errors.data_ptr<float>();
    rounder->round(feedback_block);
    if (end < weights.cols)
      w.narrow(1, end, weights.cols - end)
          .addmm_(errors.to(w.device()), rows_of_factor.narrow(1, end, weights.cols - end), 1, -1);
  }
  return rounder->finish();
}

}  // namespace strata
