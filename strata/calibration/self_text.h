#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "strata/model/model.h"

namespace strata {

// Text that the model writes itself: `blocks` sequences of `window` tokens [blocks, window], each starting
// with the BOS token (or a random token where the model has none) and sampled token by token from the model's
// own distribution at temperature 1, as data-free quantization-aware training does (LLM-QAT, arXiv
// 2305.17888). The end of a document does not end a sequence. Keeps the model's weights and the keys and
// values of a batch in memory.
at::Tensor write_self_text(const Model& model, int64_t blocks, int64_t window, uint64_t seed,
                           at::Device device);

}  // namespace strata
