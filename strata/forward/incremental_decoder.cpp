#include "strata/forward/incremental_decoder.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <functional>

#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/forward/ends.h"

namespace strata {
namespace {

constexpr int64_t kSequences = 8;  // that one thread takes at a time

// Calls `compute` for some of the sequences that `like` has, in threads on a CPU.
void for_sequences(const at::Tensor& like, const std::function<void(int64_t first, int64_t count)>& compute) {
  if (!like.is_cpu()) return compute(0, like.size(0));
  const BlasThreads one_thread(1);
  parallel_for(like.size(0), kSequences, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    compute(begin, end - begin);
  });
}

}  // namespace

IncrementalDecoder::IncrementalDecoder(Decoder& decoder, int64_t batch, int64_t length)
    : decoder_(decoder), length_(length), memories_(static_cast<size_t>(decoder.model().config.num_layers)) {
  if (decoder.options().rounding != RuntimeRounding::None)
    fail_usage("what a runtime rounds is not followed token by token");
  const ModelConfig& config = decoder.model().config;
  const auto options = at::TensorOptions().dtype(decoder.options().dtype).device(decoder.options().device);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    runs_.push_back(decoder.layer_run(layer, length));
    ropes_.push_back(runs_.back().rope);
    runs_.back().memory = &memories_[static_cast<size_t>(layer)];
    runs_.back().attention = [this, layer](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           const AttentionScores& scores, const at::Tensor& sinks) {
      return attend(static_cast<size_t>(layer), q, k, v, scores, sinks);
    };
    const int64_t heads = config.kv_heads_of(layer), key_dim = config.head_dim_of(layer);
    const int64_t value_dim = config.latent.value_dim > 0 ? config.latent.value_dim : key_dim;
    const bool attends = config.attends(layer);
    keys_.push_back(attends ? at::empty({batch, heads, length, key_dim}, options) : at::Tensor());
    values_.push_back(attends ? at::empty({batch, heads, length, value_dim}, options) : at::Tensor());
  }
}

at::Tensor IncrementalDecoder::attend(size_t layer, const at::Tensor& q, const at::Tensor& k,
                                      const at::Tensor& v, const AttentionScores& scores,
                                      const at::Tensor& sinks) {
  keys_[layer].narrow(2, position_, 1).copy_(k);
  values_[layer].narrow(2, position_, 1).copy_(v);
  const int64_t window = scores.window;
  const int64_t first = window > 0 ? std::max<int64_t>(0, position_ + 1 - window) : 0;
  const int64_t seen = position_ + 1 - first;
  const at::Tensor keys = keys_[layer].narrow(2, first, seen), values = values_[layer].narrow(2, first, seen);
  const int64_t batch = q.size(0), key_heads = k.size(1), head_dim = q.size(3);
  // The query heads that share a key head stand below one another in one matrix.
  const int64_t shared = q.size(1) / key_heads;
  const at::Tensor queries = q.reshape({batch, key_heads, shared, head_dim});
  at::Tensor output = at::empty({batch, key_heads, shared, v.size(3)}, q.options());
  for_sequences(q, [&](int64_t sequence, int64_t count) {
    const auto of = [&](const at::Tensor& all) { return all.narrow(0, sequence, count); };
    const at::Tensor products = at::matmul(of(queries), of(keys).transpose(2, 3)).to(at::kFloat);
    at::Tensor capped = softcapped(products * scores.scale_for(head_dim), scores.softcap);
    if (sinks.defined())
      capped = at::cat(
          {capped,
           sinks.to(at::kFloat).view({1, key_heads, shared, 1}).expand({count, key_heads, shared, 1})},
          -1);
    const at::Tensor weights = at::softmax(capped, -1).narrow(-1, 0, seen);
    of(output).copy_(at::matmul(weights.to(q.scalar_type()), of(values)));
  });
  return output.view({batch, 1, q.size(1) * v.size(3)});
}

at::Tensor IncrementalDecoder::step(const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  if (position_ == length_) fail("a sequence of {} tokens is full; it was made for no more", length_);
  at::Tensor hidden = decoder_.embed(ids.unsqueeze(1));
  for (size_t layer = 0; layer < runs_.size(); ++layer) {
    runs_[layer].rope = ropes_[layer].narrow(position_, 1);
    hidden = run_layer(runs_[layer], hidden);
  }
  ++position_;
  return decoder_.logits(hidden).squeeze(1);
}

}  // namespace strata
