#include "strata/calibration/reference_distribution.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace strata {
namespace {

// Logits that are in memory at a time: few enough for the caches of a CPU, enough to fill a GPU; and the
// fewest rows of them, since the head is read for each piece.
constexpr int64_t kCpuLogits = int64_t{1} << 21, kCudaLogits = int64_t{1} << 27, kFewestRows = 32;

}  // namespace

at::Tensor row_divergences(const at::Tensor& log_p, const at::Tensor& p, at::Tensor logits) {
  at::Tensor d = logits.sub_(log_p);
  const at::Tensor mean = at::bmm(p.unsqueeze(1), d.unsqueeze(2)).view({-1, 1});
  d.sub_(mean);
  // sum p d = 0 by now, so that sum p exp(d) = 1 + sum p (exp(d) - 1 - d).
  const at::Tensor curved = at::expm1(d).sub_(d);
  return at::bmm(p.unsqueeze(1), curved.unsqueeze(2)).view({-1}).log1p_();
}

ReferenceDistribution::ReferenceDistribution(Decoder& decoder, const at::Tensor& hidden, int64_t memory_limit)
    : decoder_(decoder), rows_(hidden.reshape({-1, hidden.size(-1)}).clone()) {
  const int64_t vocab = decoder.model().config.vocab_size;
  const int64_t logits_at_a_time = hidden.is_cuda() ? kCudaLogits : kCpuLogits;
  rows_per_piece_ = std::min(std::max(logits_at_a_time / vocab, kFewestRows), rows_.size(0));
  if (2 * 4 * rows_.size(0) * vocab > memory_limit) return;
  for (int64_t first = 0; first < rows_.size(0); first += rows_per_piece_)
    kept_.push_back(make_piece(first, std::min(rows_per_piece_, rows_.size(0) - first)));
}

at::Tensor ReferenceDistribution::logits(const at::Tensor& rows) {
  return decoder_.logits(rows.unsqueeze(0)).squeeze(0);
}

ReferenceDistribution::Piece ReferenceDistribution::make_piece(int64_t first, int64_t count) {
  const at::NoGradGuard no_grad;
  Piece piece;
  piece.log_p = at::log_softmax(logits(rows_.narrow(0, first, count)), -1);
  piece.p = piece.log_p.exp();
  return piece;
}

at::Tensor ReferenceDistribution::logits_by(const at::Tensor& head, const at::Tensor& rows) {
  if (!head.defined()) return logits(rows);
  const std::string& tensor = decoder_.model().head;
  decoder_.replace(tensor, head);
  const at::Tensor others = logits(rows);
  decoder_.restore(tensor);
  return others;
}

double ReferenceDistribution::divergence(const at::Tensor& hidden, const at::Tensor& head) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = hidden.reshape({-1, hidden.size(-1)});
  at::Tensor sum = at::zeros({}, rows.options().dtype(at::kDouble));
  for (int64_t first = 0; first < rows.size(0); first += rows_per_piece_) {
    const int64_t count = std::min(rows_per_piece_, rows.size(0) - first);
    const Piece piece =
        kept_.empty() ? make_piece(first, count) : kept_[static_cast<size_t>(first / rows_per_piece_)];
    sum +=
        row_divergences(piece.log_p, piece.p, logits_by(head, rows.narrow(0, first, count))).sum(at::kDouble);
  }
  return sum.item<double>() / static_cast<double>(rows.size(0));
}

}  // namespace strata
