#include "strata/evaluation/evaluate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/ranks.h"
#include "strata/evaluation/loss_by_token.h"
#include "strata/evaluation/token_losses.h"
#include "strata/evaluation/windows.h"

namespace strata {
namespace {

void check_options(const EvaluationOptions& options) {
  if (options.window < 2)
    fail_usage("the window is {} tokens, but a prediction needs at least 2", options.window);
  if (options.stride < 0 || options.stride > options.window)
    fail_usage("the stride is {}, but must lie between 1 and the window, {}", options.stride, options.window);
  if (options.max_tokens < 0 || options.batch < 0)
    fail_usage("the number of tokens and the batch cannot be negative");
}

void check_ids(const std::vector<int32_t>& ids, int64_t count, const Model& model) {
  for (int64_t i = 0; i < count; ++i)
    if (ids[i] < 0 || ids[i] >= model.config.vocab_size)
      fail(
          "{}: the text has token id {}, but the model's vocabulary has {} tokens: the tokenizer does not "
          "fit the "
          "vocabulary",
          model.path.string(), ids[i], model.config.vocab_size);
}

TokenLosses losses_of(Decoder& decoder, const std::vector<int32_t>& ids, const EvaluationOptions& options,
                      Decoder* reference) {
  const at::NoGradGuard no_grad;
  require_evaluable(ids, options, decoder.model());
  const Windows windows = cut_windows(evaluated_tokens(ids, options), options.window, options.stride);
  if (reference != nullptr && reference->model().config.vocab_size != decoder.model().config.vocab_size)
    fail("the vocabularies differ: {} has {} tokens and its reference {} has {}",
         decoder.model().path.string(), decoder.model().config.vocab_size, reference->model().path.string(),
         reference->model().config.vocab_size);

  // Batches are dealt to the ranks in turn; sums are taken in the order of the text.
  std::vector<std::string> own;
  TokenLosses losses;
  const auto put_away = [&] {
    if (rank_count() > 1 && !own.empty()) own.back() = std::exchange(losses, {}).bytes();
  };
  const auto runs = [&](int64_t batch) {
    if (batch % rank_count() != rank()) return false;
    put_away();
    own.emplace_back();
    return true;
  };
  for_each_logits(
      decoder, reference, ids, windows, options.batch,
      [&](const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& of_reference) {
        if (reference == nullptr)
          losses.add(logits, targets);
        else
          losses.add(logits, targets, of_reference);
      },
      rank_count() > 1 ? runs : std::function<bool(int64_t)>());
  if (rank_count() == 1) return losses;
  put_away();
  std::vector<std::vector<std::string>> all;
  for (const std::string& of_rank : gather(pack(own))) all.push_back(unpack(of_rank));
  TokenLosses whole;
  for (size_t batch = 0; batch / all.size() < all[batch % all.size()].size(); ++batch)
    whole.append(TokenLosses::from_bytes(all[batch % all.size()][batch / all.size()]));
  return whole;
}

}  // namespace

std::vector<int32_t> tokenize_file(const Model& model, const std::filesystem::path& text) {
  const std::string content = read_text(text);
  if (content.empty()) fail("{} is empty: there is no text to evaluate", text.string());
  return make_tokenizer(model.vocabulary())->encode(content);
}

int64_t evaluated_tokens(const std::vector<int32_t>& ids, const EvaluationOptions& options) {
  const int64_t available = static_cast<int64_t>(ids.size());
  return options.max_tokens > 0 ? std::min(options.max_tokens, available) : available;
}

void require_evaluable(const std::vector<int32_t>& ids, const EvaluationOptions& options,
                       const Model& model) {
  check_options(options);
  const int64_t tokens = evaluated_tokens(ids, options);
  if (tokens == 0) fail("the text is empty: there is no token to predict");
  if (tokens < options.window)
    fail("the text has {} tokens, fewer than one window of {}; give a longer text or a smaller window",
         tokens, options.window);
  check_ids(ids, tokens, model);
}

Evaluation evaluate(Decoder& decoder, const std::vector<int32_t>& ids, const EvaluationOptions& options,
                    Decoder* reference) {
  return losses_of(decoder, ids, options, reference).result();
}

Evaluation evaluate_by_token(Decoder& decoder, const std::vector<int32_t>& ids,
                             const EvaluationOptions& options, Decoder& reference, size_t worst,
                             LossByToken& losses) {
  const TokenLosses found = losses_of(decoder, ids, options, &reference);
  losses = loss_by_token(found.divergences(), ids, options, *make_tokenizer(reference.model().vocabulary()),
                         worst);
  return found.result();
}

}  // namespace strata
