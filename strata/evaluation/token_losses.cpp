#include "strata/evaluation/token_losses.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "strata/core/json.h"
#include "strata/core/threads.h"
#include "strata/device/products.h"

namespace strata {
namespace {

// Logits of the rows that one thread looks at together: what it makes of them stays in its caches.
constexpr int64_t kLogitsOfThread = int64_t{1} << 19;

// Calls look(first, count) for all rows of logits [n, V], on a CPU for a few at a time, in threads.
void for_some_rows(const at::Tensor& logits, const std::function<void(int64_t first, int64_t count)>& look) {
  if (!logits.is_cpu()) return look(0, logits.size(0));
  const OneThread one;
  parallel_for(logits.size(0), std::max<int64_t>(1, kLogitsOfThread / logits.size(1)),
               [&](int64_t begin, int64_t end) {
                 const at::NoGradGuard no_grad;  // of this thread
                 look(begin, end - begin);
               });
}

at::Tensor negative_log_likelihoods(const at::Tensor& log_q, const at::Tensor& targets) {
  return log_q.gather(1, targets.unsqueeze(1)).squeeze(1).neg_();
}

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

}  // namespace

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
  totals.push_back(wide.sum().item<double>());
  squares.push_back(wide.square().sum().item<double>());
}

void TokenLosses::Sum::append(const Sum& later) {
  totals.insert(totals.end(), later.totals.begin(), later.totals.end());
  squares.insert(squares.end(), later.squares.begin(), later.squares.end());
}

double TokenLosses::Sum::mean(int64_t count) const {
  return count > 0 ? sum_of(totals) / static_cast<double>(count) : 0;
}

double TokenLosses::Sum::standard_error(int64_t count) const {
  if (count < 2) return 0;
  const double n = static_cast<double>(count), total = sum_of(totals);
  const double variance = std::max(0.0, (sum_of(squares) - total * total / n) / (n - 1));
  return std::sqrt(variance / n);
}

void TokenLosses::add(const at::Tensor& logits, const at::Tensor& targets) {
  const at::Tensor nll = at::empty_like(logits.select(1, 0));
  for_some_rows(logits, [&](int64_t first, int64_t count) {
    const auto some = [&](const at::Tensor& all) { return all.narrow(0, first, count); };
    some(nll).copy_(negative_log_likelihoods(at::log_softmax(some(logits), -1), some(targets)));
  });
  nll_.add(nll);
  tokens_ += targets.size(0);
}

void TokenLosses::add(const at::Tensor& logits, const at::Tensor& targets,
                      const at::Tensor& reference_logits) {
  const at::Tensor nll = at::empty_like(logits.select(1, 0)), kld = at::empty_like(nll);
  const at::Tensor agree = at::empty_like(nll, at::kBool);
  for_some_rows(logits, [&](int64_t first, int64_t count) {
    const auto some = [&](const at::Tensor& all) { return all.narrow(0, first, count); };
    const at::Tensor log_q = at::log_softmax(some(logits), -1);
    at::Tensor log_p = at::log_softmax(some(reference_logits), -1);
    some(nll).copy_(negative_log_likelihoods(log_q, some(targets)));
    some(agree).copy_(log_q.argmax(-1).eq(log_p.argmax(-1)));
    // KL(p || q) = sum p (log p - log q)
    const at::Tensor p = log_p.exp();
    some(kld).copy_(log_p.sub_(log_q).mul_(p).sum(-1));
  });
  nll_.add(nll);
  tokens_ += targets.size(0);
  agreements_ += agree.sum().item<int64_t>();
  const at::Tensor divergence = kld.to(at::kCPU, at::kDouble);
  kld_.add(divergence);
  const double* values = divergence.data_ptr<double>();
  divergences_.insert(divergences_.end(), values, values + divergence.numel());
}

void TokenLosses::append(const TokenLosses& later) {
  tokens_ += later.tokens_;
  agreements_ += later.agreements_;
  nll_.append(later.nll_);
  kld_.append(later.kld_);
  divergences_.insert(divergences_.end(), later.divergences_.begin(), later.divergences_.end());
}

std::string TokenLosses::bytes() const {
  const std::vector<uint8_t> bytes = Json::to_cbor(Json::array(
      {tokens_, agreements_, nll_.totals, nll_.squares, kld_.totals, kld_.squares, divergences_}));
  return {bytes.begin(), bytes.end()};
}

TokenLosses TokenLosses::from_bytes(const std::string& bytes) {
  const Json fields = Json::from_cbor(bytes);
  TokenLosses losses;
  fields.at(0).get_to(losses.tokens_);
  fields.at(1).get_to(losses.agreements_);
  fields.at(2).get_to(losses.nll_.totals);
  fields.at(3).get_to(losses.nll_.squares);
  fields.at(4).get_to(losses.kld_.totals);
  fields.at(5).get_to(losses.kld_.squares);
  fields.at(6).get_to(losses.divergences_);
  return losses;
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
