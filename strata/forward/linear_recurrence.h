#pragma once

#include <ATen/ATen.h>

namespace strata {

// Linear attention that forgets: every head has a state S [D_k, D_v], which decays with every token and takes
// in u under the token's key, and which its query reads,
//   S_t = a_t S_(t-1) + k_t u_t'     o_t = S_t' q_t     a_t = exp(log_decay_t)
// where u is the value itself (Mamba 2, arXiv 2405.21060), or with beta what corrects that which the state
// holds under the key (the gated delta rule, arXiv 2412.06464):
//   u_t = v_t   or   u_t = beta_t (v_t - a_t S_(t-1)' k_t)
struct LinearRecurrence {
  at::Tensor q, k;       // [B, H, T, D_k]
  at::Tensor v;          // [B, H, T, D_v]
  at::Tensor log_decay;  // [B, H, T], at most 0
  at::Tensor beta;       // [B, H, T]; undefined: u is v
};

// Gives o [B, H, T, D_v], in float32 and in chunks of tokens, within which the recurrence is a product of
// matrices. `state` is that before the first token, [B, H, D_k, D_v] or undefined: zeros, and becomes that
// behind the last; null: zeros. On a CPU heads go through one by one, so that no bit depends on the number of
// threads.
at::Tensor run_recurrence(const LinearRecurrence& recurrence, at::Tensor* state);

// Heads that value heads share, repeated for each of those: [B, H_k, T, D] -> [B, H, T, D]. Those of one key
// head stand side by side, or `tiled`, at a distance of H_k.
at::Tensor repeat_heads(const at::Tensor& heads, int64_t value_heads, bool tiled);

}  // namespace strata
