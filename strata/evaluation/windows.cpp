#include "strata/evaluation/windows.h"

#include <ATen/core/grad_mode.h>

#include "strata/core/interrupt.h"
#include "strata/core/progress.h"

namespace strata {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

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
int64_t choose_batch(const std::vector<Decoder*>& decoders, const Windows& windows, int64_t batch) {
  if (batch > 0) return std::min(batch, windows.count);
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

}  // namespace

Windows cut_windows(int64_t tokens, int64_t window, int64_t stride) {
  Windows windows;
  windows.length = window;
  windows.stride = stride > 0 ? stride : window;
  windows.count = (tokens - window) / windows.stride + 1;
  return windows;
}

void for_each_logits(Decoder& decoder, Decoder* reference, const std::vector<int32_t>& ids,
                     const Windows& windows, int64_t batch, const SeeLogits& see,
                     const std::function<bool(int64_t batch)>& runs) {
  const at::NoGradGuard no_grad;
  std::vector<Decoder*> decoders = {&decoder};
  if (reference != nullptr) decoders.push_back(reference);
  batch = choose_batch(decoders, windows, batch);
  const int64_t piece = positions_per_piece(decoders);
  int64_t layers = 0;
  for (const Decoder* each : decoders) layers += each->model().config.num_layers;

  Progress progress("evaluating", windows.count * layers, "window layers");
  for (int64_t first = 0; first < windows.count; first += batch) {
    const int64_t windows_of_batch = std::min(batch, windows.count - first);
    if (runs && !runs(first / batch)) {
      progress.advance(windows_of_batch * layers);
      continue;
    }
    const at::Tensor batch_ids = gather_ids(ids, windows, first, windows_of_batch);
    const at::Tensor targets = target_rows(batch_ids, windows, first).to(decoder.options().device);
    const at::Tensor rows = predicting_rows(last_hidden(decoder, batch_ids, progress), windows, first);
    at::Tensor reference_rows;
    if (reference != nullptr)
      reference_rows = predicting_rows(last_hidden(*reference, batch_ids, progress), windows, first);
    for (int64_t row = 0; row < rows.size(0); row += piece) {
      check_interrupted();
      const int64_t count = std::min(piece, rows.size(0) - row);
      const at::Tensor logits = logits_of(decoder, rows, row, count);
      at::Tensor reference_logits;
      if (reference != nullptr)
        reference_logits = logits_of(*reference, reference_rows, row, count).to(logits.device());
      see(logits, targets.narrow(0, row, count), reference_logits);
    }
  }
}

}  // namespace strata
