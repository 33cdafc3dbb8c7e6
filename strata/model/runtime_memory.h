#pragma once

#include <cstdint>

#include "strata/model/config.h"

namespace strata {

// Bytes that llama.cpp takes beside a model's file.
struct RuntimeMemory {
  uint64_t cache = 0;    // keys and values of the context
  uint64_t state = 0;    // of layers that keep one instead, float32
  uint64_t buffers = 0;  // of the computation

  uint64_t total() const { return cache + state + buffers; }
};

// For one sequence of `context` tokens, with keys and values of `cache_bits` bits (16 for f16, 8.5 for q8_0),
// batches of 512 tokens and flash attention, as llama.cpp does by itself: contexts are multiples of 256, and
// a layer that slides keeps its window and a batch. The computation has at once, of a batch, four vectors of
// the hidden size and the logits, or both halves of a feed-forward block, and the mask in F32 and F16: a few
// percent above what llama.cpp prints (its buffers share more where they can).
RuntimeMemory llama_cpp_memory(const ModelConfig& config, int64_t context, double cache_bits);

}  // namespace strata
