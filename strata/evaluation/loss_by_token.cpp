#include "strata/evaluation/loss_by_token.h"

#include <algorithm>
#include <numeric>

#include "strata/evaluation/windows.h"

namespace strata {
namespace {

std::string text_of(const std::vector<int32_t>& ids, int64_t first, int64_t last,
                    const Tokenizer& tokenizer) {
  first = std::max<int64_t>(0, first);
  last = std::min(last, static_cast<int64_t>(ids.size()));
  return tokenizer.decode(std::vector<int32_t>(ids.begin() + first, ids.begin() + std::max(first, last)));
}

}  // namespace

LossByToken loss_by_token(const std::vector<double>& divergences, const std::vector<int32_t>& ids,
                          const EvaluationOptions& options, const Tokenizer& tokenizer, size_t worst) {
  constexpr int64_t kBefore = 16, kAfter = 4;  // tokens of context
  const Windows windows = cut_windows(evaluated_tokens(ids, options), options.window, options.stride);
  LossByToken losses;
  losses.by_position.assign(static_cast<size_t>(windows.length), 0);
  std::vector<int64_t> counts(losses.by_position.size(), 0), places;  // places: in the text, by prediction
  for (int64_t w = 0; w < windows.count; ++w)
    for (int64_t i = windows.length - windows.counted(w); i < windows.length; ++i) {
      losses.by_position[static_cast<size_t>(i)] += divergences[places.size()];
      ++counts[static_cast<size_t>(i)];
      places.push_back(windows.start(w) + i);
    }
  for (size_t i = 0; i < counts.size(); ++i)
    if (counts[i] > 0) losses.by_position[i] /= static_cast<double>(counts[i]);

  std::vector<size_t> order(divergences.size());
  std::iota(order.begin(), order.end(), size_t{0});
  worst = std::min(worst, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(worst), order.end(),
                    [&](size_t a, size_t b) {
                      return divergences[a] != divergences[b] ? divergences[a] > divergences[b] : a < b;
                    });
  for (size_t k = 0; k < worst; ++k) {
    const int64_t at = places[order[k]];
    losses.worst.push_back({text_of(ids, at - kBefore, at, tokenizer), text_of(ids, at, at + 1, tokenizer),
                            text_of(ids, at + 1, at + 1 + kAfter, tokenizer), divergences[order[k]]});
  }
  return losses;
}

}  // namespace strata
