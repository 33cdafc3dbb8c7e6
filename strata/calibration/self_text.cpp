#include "strata/calibration/self_text.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "strata/core/progress.h"
#include "strata/core/random.h"
#include "strata/forward/decoder.h"
#include "strata/forward/incremental_decoder.h"

namespace strata {
namespace {

constexpr int64_t kMostCacheElements = int64_t{1} << 28;

// The token at which the cumulative probabilities pass a uniform draw, for every row of logits [B, V].
at::Tensor sample(const at::Tensor& logits, std::vector<Random>& draws) {
  const at::Tensor sums = at::cumsum(at::softmax(logits.to(at::kDouble), -1), -1).cpu();
  at::Tensor chosen = at::empty({logits.size(0)}, at::kLong);
  const int64_t vocab = sums.size(1);
  for (int64_t b = 0; b < sums.size(0); ++b) {
    const double* row = sums.data_ptr<double>() + b * vocab;
    const double target = draws[static_cast<size_t>(b)].uniform() * row[vocab - 1];
    chosen.data_ptr<int64_t>()[b] =
        std::min<int64_t>(std::upper_bound(row, row + vocab, target) - row, vocab - 1);
  }
  return chosen;
}

}  // namespace

at::Tensor write_self_text(const Model& model, int64_t blocks, int64_t window, uint64_t seed,
                           at::Device device) {
  const at::NoGradGuard no_grad;
  DecoderOptions options;
  options.device = device;
  if (device.is_cuda()) options.dtype = at::kBFloat16;
  Decoder decoder(model, options);
  const ModelConfig& config = model.config;
  int64_t cache = 0;
  for (int layer = 0; layer < config.num_layers; ++layer)
    cache += 2 * config.kv_heads_of(layer) * config.head_dim_of(layer) * window;
  const int64_t batch = std::clamp<int64_t>(kMostCacheElements / cache, 1, blocks);

  // A stream of draws for every block, so that the batch does not change what is written.
  Random seeds(seed);
  at::Tensor text = at::empty({blocks, window}, at::kLong);
  Progress progress("writing calibration text", blocks * window, "tokens");
  for (int64_t first = 0; first < blocks; first += batch) {
    const int64_t count = std::min(batch, blocks - first);
    std::vector<Random> draws;
    at::Tensor ids = at::empty({count}, at::kLong);
    for (int64_t b = 0; b < count; ++b) {
      draws.emplace_back(seeds.next());
      const auto random_token =
          static_cast<int64_t>(draws.back().below(static_cast<uint64_t>(config.vocab_size)));
      ids.data_ptr<int64_t>()[b] = config.bos ? static_cast<int64_t>(*config.bos) : random_token;
    }
    IncrementalDecoder incremental(decoder, count, window);
    for (int64_t t = 0;; ++t) {
      text.narrow(0, first, count).select(1, t).copy_(ids);
      progress.advance(count);
      if (t + 1 == window) break;
      ids = sample(incremental.step(ids), draws);
    }
  }
  return text;
}

}  // namespace strata
