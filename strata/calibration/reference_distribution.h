#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "strata/forward/decoder.h"

namespace strata {

// The next-token distributions p of a model, kept to be compared with.
class ReferenceDistribution {
 public:
  // From the last layer's hidden states [B, T, d], all of whose positions count. The probabilities are kept
  // while they take at most `memory_limit` bytes, and are otherwise computed again for every comparison.
  ReferenceDistribution(Decoder& decoder, const at::Tensor& hidden, int64_t memory_limit);

  // The mean over positions of KL(p || q) in nats, where q is what other hidden states [B, T, d] of the same
  // positions decode to, with another head where one is given.
  double divergence(const at::Tensor& hidden, const at::Tensor& head = {});

 private:
  struct Piece {
    at::Tensor log_p, p;  // [rows, V] float
  };
  Piece make_piece(int64_t first, int64_t count);
  at::Tensor logits(const at::Tensor& rows);
  at::Tensor logits_by(const at::Tensor& head, const at::Tensor& rows);

  Decoder& decoder_;
  at::Tensor rows_;  // [B * T, d]
  int64_t rows_per_piece_;
  std::vector<Piece> kept_;
};

// KL(p || q) of every row in nats, [rows] float, from log p, p and q's logits (any constant may be added to a
// row), which are overwritten. With d = logits - log p and its mean m under p, KL = ln sum p exp(d - m);
// terms that cancel are taken out first, so that small divergences keep their digits.
at::Tensor row_divergences(const at::Tensor& log_p, const at::Tensor& p, at::Tensor logits);

}  // namespace strata
