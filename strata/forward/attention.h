#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "strata/model/config.h"

namespace strata {

// Causal attention softmax(cap(scale q k^T)) v with the softmax in float32. q [B, H, T, D]; k [B, H_kv, T,
// D], v [B, H_kv, T, D_v] where H_kv divides H and query head h reads key head h / (H / H_kv). With a window
// a query sees the last `window` keys only, itself included. Sinks [H], if defined, are scores of a key
// without value that all queries of a head see. Gives [B, T, H * D_v]. Queries go through in blocks, so that
// scores take a bounded amount of memory and keys in the future of a whole block are never touched; the
// backward pass computes them again instead of keeping them.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionScores& scores, const at::Tensor& sinks = {});

}  // namespace strata
