#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strata/evaluation/evaluate.h"

namespace strata {

// Sums over predicted tokens, in double precision.
class TokenLosses {
 public:
  // Negative log likelihoods of the targets: logits [n, V], targets [n].
  void add(const at::Tensor& logits, const at::Tensor& targets);
  // The same, and how far the distributions are from the reference's: reference_logits [n, V].
  void add(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& reference_logits);

  // Adds what came behind all of this.
  void append(const TokenLosses& later);

  // To be handed to other ranks (core/ranks.h), and back.
  std::string bytes() const;
  static TokenLosses from_bytes(const std::string& bytes);

  Evaluation result() const;
  const std::vector<double>& divergences() const { return divergences_; }  // of every token, in order

 private:
  // Of every call of add() by itself, summed up in their order at the end.
  struct Sum {
    std::vector<double> totals, squares;
    void add(const at::Tensor& values);
    void append(const Sum& later);
    double mean(int64_t count) const;
    double standard_error(int64_t count) const;  // of the mean
  };

  int64_t tokens_ = 0, agreements_ = 0;
  Sum nll_, kld_;
  std::vector<double> divergences_;  // of every token, for the percentile
};

// The value below which a fraction of the sample lies, interpolated between neighbours.
double quantile(std::vector<double> values, double fraction);

}  // namespace strata
