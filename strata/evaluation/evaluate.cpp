#include "strata/evaluation/evaluate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/interrupt.h"
#include "strata/core/progress.h"
#include "strata/evaluation/token_losses.h"

namespace strata {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// The cut of the text into windows, and which tokens of each are predicted: all but the first of the first
// window, the last `counted` of the others.
struct Windows {
  int64_t length = 0, stride = 0, count = 0;

  int64_t start(int64_t index) const { return index * stride; }
  int64_t counted(int64_t index) const { return index == 0 ? length - 1 : std::min(stride, length - 1); }
};

void check_options(const EvaluationOptions& options) {
  if (options.window < 2)
    fail_usage("the window is {} tokens, but a prediction needs at least 2", options.window);
  if (options.stride < 0 || options.stride > options.window)
    fail_usage("the stride is {}, but must lie between 1 and the window, {}", options.stride, options.window);
  if (options.max_tokens < 0 || options.batch < 0)
    fail_usage("the number of tokens and the batch cannot be negative");
}

Windows cut(int64_t tokens, const EvaluationOptions& options) {
  Windows windows;
  windows.length = options.window;
  windows.stride = options.stride > 0 ? options.stride : options.window;
  windows.count = (tokens - options.window) / windows.stride + 1;
  return windows;
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

bool any_streams(const std::vector<Decoder*>& decoders) {
  return std::any_of(decoders.begin(), decoders.end(),
                     [](const Decoder* decoder) { return !decoder->options().resident; });
}

bool any_on_cuda(const std::vector<Decoder*>& decoders) {
  return std::any_of(decoders.begin(), decoders.end(),
                     [](const Decoder* decoder) { return decoder->options().device.is_cuda(); });
}

// As many windows as keep the hidden states within a memory bound. Where weights are not kept every batch
// loads the whole model, so batches are as large as that allows; otherwise smaller ones do.
int64_t choose_batch(const std::vector<Decoder*>& decoders, const Windows& windows,
                     const EvaluationOptions& options) {
  if (options.batch > 0) return std::min(options.batch, windows.count);
  int64_t window_bytes = 0;
  for (const Decoder* decoder : decoders)
    window_bytes += windows.length * decoder->model().config.hidden_size * 4;
  int64_t bound = 16 * kMiB;
  if (any_on_cuda(decoders)) bound = 256 * kMiB;
  if (any_streams(decoders)) bound = 1024 * kMiB;
  return std::clamp<int64_t>(bound / window_bytes, 1, windows.count);
}

// Positions whose logits are in memory at a time: enough for a GPU, and for a head that is read from disk
// once for each such piece; otherwise few. A head is read from memory for each, so that they are never very
// few.
int64_t positions_per_piece(const std::vector<Decoder*>& decoders) {
  constexpr int64_t kFewest = 64, kMost = 256;
  const int64_t vocab_size = decoders.front()->model().config.vocab_size;
  const auto positions = [&](int64_t logits) { return std::max(kFewest, logits / vocab_size); };
  if (any_on_cuda(decoders)) return positions(128 * kMiB);
  if (any_streams(decoders)) return positions(64 * kMiB);
  return std::max(std::min(kMost, positions(16 * kMiB)), positions(2 * kMiB));
}

at::Tensor gather_ids(const std::vector<int32_t>& ids, const Windows& windows, int64_t first, int64_t count) {
  at::Tensor batch = at::empty({count, windows.length}, at::kLong);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(ids.begin() + windows.start(first + i), windows.length,
                batch.data_ptr<int64_t>() + i * windows.length);
  return batch;
}

at::Tensor last_hidden(Decoder& decoder, const at::Tensor& ids, Progress& progress) {
  at::Tensor hidden = decoder.embed(ids);
  for (int layer = 0; layer < decoder.model().config.num_layers; ++layer) {
    hidden = decoder.layer(layer, hidden);
    progress.advance(ids.size(0));
  }
  return hidden;
}

// The hidden states that predict the counted tokens of windows `first`.., one row a token.
at::Tensor predicting_rows(const at::Tensor& hidden, const Windows& windows, int64_t first) {
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < hidden.size(0); ++i) {
    const int64_t counted = windows.counted(first + i);
    rows.push_back(hidden[i].narrow(0, windows.length - 1 - counted, counted));
  }
  return at::cat(rows);
}

at::Tensor target_rows(const at::Tensor& ids, const Windows& windows, int64_t first) {
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < ids.size(0); ++i) {
    const int64_t counted = windows.counted(first + i);
    rows.push_back(ids[i].narrow(0, windows.length - counted, counted));
  }
  return at::cat(rows);
}

at::Tensor logits_of(Decoder& decoder, const at::Tensor& rows, int64_t first, int64_t count) {
  return decoder.logits(rows.narrow(0, first, count).unsqueeze(0)).squeeze(0);
}

int64_t tokens_of(const std::vector<int32_t>& ids, const EvaluationOptions& options) {
  const int64_t available = static_cast<int64_t>(ids.size());
  return options.max_tokens > 0 ? std::min(options.max_tokens, available) : available;
}

}  // namespace

std::vector<int32_t> tokenize_file(const Model& model, const std::filesystem::path& text) {
  const std::string content = read_text(text);
  if (content.empty()) fail("{} is empty: there is no text to evaluate", text.string());
  return make_tokenizer(model.vocabulary())->encode(content);
}

void require_evaluable(const std::vector<int32_t>& ids, const EvaluationOptions& options,
                       const Model& model) {
  check_options(options);
  const int64_t tokens = tokens_of(ids, options);
  if (tokens == 0) fail("the text is empty: there is no token to predict");
  if (tokens < options.window)
    fail("the text has {} tokens, fewer than one window of {}; give a longer text or a smaller window",
         tokens, options.window);
  check_ids(ids, tokens, model);
}

Evaluation evaluate(Decoder& decoder, const std::vector<int32_t>& ids, const EvaluationOptions& options,
                    Decoder* reference) {
  const at::NoGradGuard no_grad;
  require_evaluable(ids, options, decoder.model());
  const Windows windows = cut(tokens_of(ids, options), options);
  if (reference != nullptr && reference->model().config.vocab_size != decoder.model().config.vocab_size)
    fail("the vocabularies differ: {} has {} tokens and its reference {} has {}",
         decoder.model().path.string(), decoder.model().config.vocab_size, reference->model().path.string(),
         reference->model().config.vocab_size);

  std::vector<Decoder*> decoders = {&decoder};
  if (reference != nullptr) decoders.push_back(reference);
  const int64_t batch = choose_batch(decoders, windows, options);
  const int64_t piece = positions_per_piece(decoders);
  int64_t layers = 0;
  for (const Decoder* each : decoders) layers += each->model().config.num_layers;

  TokenLosses losses;
  Progress progress("evaluating", windows.count * layers, "window layers");
  for (int64_t first = 0; first < windows.count; first += batch) {
    const at::Tensor batch_ids = gather_ids(ids, windows, first, std::min(batch, windows.count - first));
    const at::Tensor targets = target_rows(batch_ids, windows, first).to(decoder.options().device);
    const at::Tensor rows = predicting_rows(last_hidden(decoder, batch_ids, progress), windows, first);
    at::Tensor reference_rows;
    if (reference != nullptr)
      reference_rows = predicting_rows(last_hidden(*reference, batch_ids, progress), windows, first);

    for (int64_t row = 0; row < rows.size(0); row += piece) {
      check_interrupted();
      const int64_t count = std::min(piece, rows.size(0) - row);
      const at::Tensor logits = logits_of(decoder, rows, row, count);
      if (reference == nullptr)
        losses.add(logits, targets.narrow(0, row, count));
      else
        losses.add(logits, targets.narrow(0, row, count),
                   logits_of(*reference, reference_rows, row, count).to(logits.device()));
    }
  }
  return losses.result();
}

}  // namespace strata
