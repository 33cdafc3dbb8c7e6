#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "strata/forward/decoder.h"

namespace strata {

// The cut of a text into windows, and which tokens of each are predicted.
struct Windows {
  int64_t length = 0, stride = 0, count = 0;
  int64_t context = 0;  // tokens of every window that are not predicted; 0: one of the first window, and of
                        // the others those that the window before has predicted

  int64_t start(int64_t index) const { return index * stride; }
  int64_t counted(int64_t index) const {
    if (context > 0) return length - context;
    return index == 0 ? length - 1 : std::min(stride, length - 1);
  }
};

// As many windows as `tokens` have room for; a stride of 0 is the window.
Windows cut_windows(int64_t tokens, int64_t window, int64_t stride);

// Sees logits [n, V] and the tokens [n] that they predict, on the decoder's device; of a reference the logits
// at the same places, otherwise undefined.
using SeeLogits = std::function<void(const at::Tensor& logits, const at::Tensor& targets,
                                     const at::Tensor& reference_logits)>;

// Runs the windows through the decoder, and through a reference where there is one, and shows the logits of
// the counted tokens in order, some at a time. `batch` windows run together; 0: as many as memory is meant
// for. Where `runs` is given, batches for which it says no are left out.
void for_each_logits(Decoder& decoder, Decoder* reference, const std::vector<int32_t>& ids,
                     const Windows& windows, int64_t batch, const SeeLogits& see,
                     const std::function<bool(int64_t batch)>& runs = nullptr);

}  // namespace strata
