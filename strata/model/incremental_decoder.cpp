#include "strata/model/incremental_decoder.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/core/error.h"
#include "strata/model/attention.h"

namespace strata {

IncrementalDecoder::IncrementalDecoder(Decoder& decoder, int64_t batch, int64_t length)
    : decoder_(decoder), length_(length) {
  if (decoder.options().rounding != RuntimeRounding::None)
    fail_usage("what a runtime rounds is not followed token by token");
  const ModelConfig& config = decoder.model().config;
  const auto options = at::TensorOptions().dtype(decoder.options().dtype).device(decoder.options().device);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    keys_.push_back(at::empty({batch, config.num_kv_heads, length, config.head_dim}, options));
    values_.push_back(at::empty_like(keys_.back()));
  }
}

at::Tensor IncrementalDecoder::attend(size_t layer, const at::Tensor& q, const at::Tensor& k,
                                      const at::Tensor& v, const AttentionScores& scores) {
  keys_[layer].narrow(2, position_, 1).copy_(k);
  values_[layer].narrow(2, position_, 1).copy_(v);
  const int64_t window = scores.window;
  const int64_t first = window > 0 ? std::max<int64_t>(0, position_ + 1 - window) : 0;
  const int64_t seen = position_ + 1 - first;
  const at::Tensor keys = keys_[layer].narrow(2, first, seen);
  const int64_t batch = q.size(0), key_heads = k.size(1), head_dim = q.size(3);
  // The query heads that share a key head stand below one another in one matrix.
  const at::Tensor queries = q.reshape({batch, key_heads, q.size(1) / key_heads, head_dim});
  const at::Tensor products = at::matmul(queries, keys.transpose(2, 3)).to(at::kFloat);
  const at::Tensor weights =
      at::softmax(capped_scores(products * scores.scale_for(head_dim), scores), -1).to(q.scalar_type());
  return at::matmul(weights, values_[layer].narrow(2, first, seen)).view({batch, 1, q.size(1) * head_dim});
}

at::Tensor IncrementalDecoder::step(const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  if (position_ == length_) fail("a sequence of {} tokens is full; it was made for no more", length_);
  const ModelConfig& config = decoder_.model().config;
  at::Tensor hidden = decoder_.embed(ids.unsqueeze(1));
  for (int layer = 0; layer < config.num_layers; ++layer) {
    LayerRun run = decoder_.layer_run(layer, length_);
    run.rope = run.rope.narrow(position_, 1);
    run.attention = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const AttentionScores& scores) {
      return attend(static_cast<size_t>(layer), q, k, v, scores);
    };
    hidden = run_layer(run, hidden);
  }
  ++position_;
  return decoder_.logits(hidden).squeeze(1);
}

}  // namespace strata
