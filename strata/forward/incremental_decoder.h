#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "strata/forward/decoder.h"

namespace strata {

// Decodes a batch of sequences token by token and keeps their keys and values, [B, H_kv, length, D] twice a
// layer that attends, the memory of the others, and the weights of all layers as they are when it is made.
// The decoder must outlive it.
class IncrementalDecoder {
 public:
  IncrementalDecoder(Decoder& decoder, int64_t batch, int64_t length);
  IncrementalDecoder(const IncrementalDecoder&) = delete;  // its layers attend to what is in here

  // Appends one token a sequence, ids [B], and gives the logits of the next, float [B, V]. Throws once
  // `length` tokens are there.
  at::Tensor step(const at::Tensor& ids);

 private:
  at::Tensor attend(size_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const AttentionScores& scores, const at::Tensor& sinks);

  Decoder& decoder_;
  int64_t length_, position_ = 0;
  std::vector<LayerRun> runs_;
  std::vector<RopeTable> ropes_;           // of all positions, a layer each
  std::vector<at::Tensor> keys_, values_;  // undefined where a layer does not attend
  std::vector<LayerMemory> memories_;
};

}  // namespace strata
