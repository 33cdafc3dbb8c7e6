#include "strata/quantizers/learned_module.h"

#include <utility>

#include "strata/core/error.h"

namespace strata {
namespace {

// 0, 1, ... without these, which are rising.
std::vector<int64_t> all_but(const std::vector<int64_t>& rows, int64_t count) {
  std::vector<int64_t> others;
  size_t next = 0;
  for (int64_t row = 0; row < count; ++row) {
    if (next < rows.size() && rows[next] == row)
      ++next;
    else
      others.push_back(row);
  }
  return others;
}

}  // namespace

LearnedModule::LearnedModule(const Module& module, const Scheme& scheme, const at::Tensor& weight,
                             const LayerOutputOptions& options)
    : module_(module) {
  if (scheme.kind != Scheme::Kind::Affine && scheme.kind != Scheme::Kind::MixedRows)
    fail_usage(
        "{} is planned as {}, but adaround, lwc and hybrid learn affine groups; choose schemes such as w3g64",
        module.tensor, scheme.name());
  QuantizerOptions quantizer;
  quantizer.name = options.start;
  quantizer.row_impact = impacts_of(options.row_impacts, module.tensor, module.rows);
  start_ = quantize_matrix({weight.data_ptr<float>(), module.rows, module.cols}, scheme, quantizer);
  const at::Tensor on_device = weight.to(options.activations.device);
  if (scheme.kind == Scheme::Kind::Affine) {
    low_ = learn(on_device, start_.affine, false, options);
    return;
  }
  const std::vector<int64_t> low_rows = all_but(start_.mixed.high_rows, module.rows);
  const auto rows_of = [&](const std::vector<int64_t>& rows) {
    return on_device.index_select(0, at::tensor(rows, at::kLong).to(on_device.device()));
  };
  if (!low_rows.empty()) low_ = learn(rows_of(low_rows), start_.mixed.low, false, options);
  if (!start_.mixed.high_rows.empty())
    high_ = learn(rows_of(start_.mixed.high_rows), start_.mixed.high, true, options);
  std::vector<int64_t> order = low_rows;
  order.insert(order.end(), start_.mixed.high_rows.begin(), start_.mixed.high_rows.end());
  place_of_row_ = at::argsort(at::tensor(order, at::kLong)).to(on_device.device());
}

std::unique_ptr<LearnedMatrix> LearnedModule::learn(const at::Tensor& rows, const AffineMatrix& start,
                                                    bool high, const LayerOutputOptions& options) const {
  const bool round =
      options.learning == RowLearning::AdaRound || (options.learning == RowLearning::Hybrid && high);
  return round ? make_adaround(rows, start) : make_learnable_clipping(rows, start.scheme);
}

std::vector<at::Tensor> LearnedModule::parameters() const {
  std::vector<at::Tensor> all;
  for (const LearnedMatrix* part : {low_.get(), high_.get()}) {
    if (part == nullptr) continue;
    const std::vector<at::Tensor> of_part = part->parameters();
    all.insert(all.end(), of_part.begin(), of_part.end());
  }
  return all;
}

at::Tensor LearnedModule::weights() {
  if (!place_of_row_.defined()) return low_->weights();
  std::vector<at::Tensor> parts;
  for (LearnedMatrix* part : {low_.get(), high_.get()})
    if (part != nullptr) parts.push_back(part->weights());
  return at::cat(parts).index_select(0, place_of_row_);
}

at::Tensor LearnedModule::regularizer(double progress) {
  at::Tensor sum;
  for (LearnedMatrix* part : {low_.get(), high_.get()}) {
    const at::Tensor of_part = part != nullptr ? part->regularizer(progress) : at::Tensor();
    if (of_part.defined()) sum = sum.defined() ? sum + of_part : of_part;
  }
  return sum;
}

QuantizedMatrix LearnedModule::stored() const {
  QuantizedMatrix matrix = start_;
  const bool mixed = start_.scheme.kind == Scheme::Kind::MixedRows;
  if (low_) (mixed ? matrix.mixed.low : matrix.affine) = low_->stored();
  if (high_) matrix.mixed.high = high_->stored();
  return matrix;
}

}  // namespace strata
