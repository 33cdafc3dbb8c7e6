#include "strata/evaluation/token_losses.h"

#include <algorithm>
#include <cmath>

namespace strata {

double quantile(std::vector<double> values, double fraction) {
  if (values.empty()) return 0;
  const double position = fraction * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(position);
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const double low = values[below];
  if (below + 1 == values.size()) return low;
  const double high = *std::min_element(values.begin() + below + 1, values.end());
  return low + (position - static_cast<double>(below)) * (high - low);
}

void TokenLosses::Sum::add(const at::Tensor& values) {
  const at::Tensor wide = values.to(at::kDouble);
  total += wide.sum().item<double>();
  squares += wide.square().sum().item<double>();
}

double TokenLosses::Sum::mean(int64_t count) const {
  return count > 0 ? total / static_cast<double>(count) : 0;
}

double TokenLosses::Sum::standard_error(int64_t count) const {
  if (count < 2) return 0;
  const double n = static_cast<double>(count);
  const double variance = std::max(0.0, (squares - total * total / n) / (n - 1));
  return std::sqrt(variance / n);
}

void TokenLosses::add(const at::Tensor& logits, const at::Tensor& targets) {
  const at::Tensor log_q = at::log_softmax(logits, -1);
  nll_.add(log_q.gather(1, targets.unsqueeze(1)).neg_());
  tokens_ += targets.size(0);
}

void TokenLosses::add(const at::Tensor& logits, const at::Tensor& targets,
                      const at::Tensor& reference_logits) {
  const at::Tensor log_q = at::log_softmax(logits, -1);
  const at::Tensor log_p = at::log_softmax(reference_logits, -1);
  nll_.add(log_q.gather(1, targets.unsqueeze(1)).neg_());
  tokens_ += targets.size(0);
  agreements_ += log_q.argmax(-1).eq(log_p.argmax(-1)).sum().item<int64_t>();
  // KL(p || q) = sum p (log p - log q)
  const at::Tensor divergence = log_p.exp().mul_(log_p - log_q).sum(-1).to(at::kCPU, at::kDouble);
  kld_.add(divergence);
  const double* values = divergence.data_ptr<double>();
  divergences_.insert(divergences_.end(), values, values + divergence.numel());
}

Evaluation TokenLosses::result() const {
  Evaluation evaluation;
  evaluation.tokens = tokens_;
  evaluation.nll = nll_.mean(tokens_);
  evaluation.nll_standard_error = nll_.standard_error(tokens_);
  evaluation.ppl = std::exp(evaluation.nll);
  evaluation.ppl_standard_error = evaluation.ppl * evaluation.nll_standard_error;
  if (!divergences_.empty()) {
    evaluation.kld = kld_.mean(tokens_);
    evaluation.kld_standard_error = kld_.standard_error(tokens_);
    evaluation.kld_p99 = quantile(divergences_, 0.99);
    evaluation.top1 = static_cast<double>(agreements_) / static_cast<double>(tokens_);
  }
  return evaluation;
}

}  // namespace strata
