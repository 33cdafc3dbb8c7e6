#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
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

  Evaluation result() const;
  const std::vector<double>& divergences() const { return divergences_; }  // of every token, in order

 private:
  struct Sum {
    double total = 0, squares = 0;
    void add(const at::Tensor& values);
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
