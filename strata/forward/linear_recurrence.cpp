#include "strata/forward/linear_recurrence.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "strata/core/blas_threads.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

constexpr int64_t kChunk = 64;          // tokens
constexpr int64_t kHeadsOfAToken = 64;  // that go through together where each has one token

// Some heads, and the tokens of a chunk: q, k [N, C, D_k], v [N, C, D_v], log_decay and beta [N, C].
LinearRecurrence narrowed(const LinearRecurrence& all, int64_t dim, int64_t first, int64_t count) {
  const auto part = [&](const at::Tensor& values) {
    return values.defined() ? values.narrow(dim, first, count) : values;
  };
  return {part(all.q), part(all.k), part(all.v), part(all.log_decay), part(all.beta)};
}

// One chunk. With s_i the sum of log_decay up to token i, its tokens read
//   o_i = exp(s_i) S' q_i + sum_(j <= i) exp(s_i - s_j) (q_i k_j) u_j
// and leave S = exp(s_C) S + sum_j exp(s_C - s_j) k_j u_j'. With beta, u solves the triangular system
//   u_i + sum_(j < i) beta_i exp(s_i - s_j) (k_i k_j) u_j = beta_i (v_i - exp(s_i) S' k_i).
at::Tensor run_chunk(const LinearRecurrence& chunk, at::Tensor& state) {
  const at::Tensor sums = chunk.log_decay.cumsum(1), since_start = sums.exp().unsqueeze(2);
  const int64_t tokens = sums.size(1);
  const at::Tensor future = at::ones({tokens, tokens}, sums.options().dtype(at::kBool)).triu(1);
  const at::Tensor decay = (sums.unsqueeze(2) - sums.unsqueeze(1))
                               .masked_fill(future, -std::numeric_limits<float>::infinity())
                               .exp();
  const at::Tensor keys = chunk.k.transpose(1, 2);
  at::Tensor u = chunk.v;
  if (chunk.beta.defined()) {
    const at::Tensor beta = chunk.beta.unsqueeze(2);
    u = at::linalg_solve_triangular(beta * decay * at::bmm(chunk.k, keys),
                                    beta * (chunk.v - since_start * at::bmm(chunk.k, state)),
                                    /*upper=*/false, /*left=*/true, /*unitriangular=*/true);
  }
  const at::Tensor output =
      since_start * at::bmm(chunk.q, state) + at::bmm(decay * at::bmm(chunk.q, keys), u);
  const at::Tensor last = sums.narrow(1, tokens - 1, 1);
  const at::Tensor until_end = (last - sums).exp().unsqueeze(2);
  state = last.exp().unsqueeze(2) * state + at::bmm(keys, until_end * u);
  return output;
}

// Some heads, chunk by chunk.
at::Tensor run_heads(const LinearRecurrence& heads, at::Tensor& state) {
  std::vector<at::Tensor> outputs;
  const int64_t length = heads.q.size(1);
  for (int64_t first = 0; first < length; first += kChunk)
    outputs.push_back(run_chunk(narrowed(heads, 1, first, std::min(kChunk, length - first)), state));
  return outputs.size() == 1 ? outputs.front() : at::cat(outputs, 1);
}

// Calls body(first, end) for pieces of the heads of one size, in threads where no gradients are taken.
void for_heads(const at::Tensor& q, const std::function<void(int64_t first, int64_t end)>& body) {
  if (!q.is_cpu()) return body(0, q.size(0));
  const int64_t together = q.size(1) == 1 ? kHeadsOfAToken : 1;
  const BlasThreads one_thread(1);
  if (at::GradMode::is_enabled()) {
    for (int64_t first = 0; first < q.size(0); first += together)
      body(first, std::min(q.size(0), first + together));
    return;
  }
  parallel_for(q.size(0), together, [&](int64_t first, int64_t end) {
    const at::NoGradGuard of_this_thread;
    body(first, end);
  });
}

}  // namespace

at::Tensor run_recurrence(const LinearRecurrence& recurrence, at::Tensor* state) {
  const int64_t batch = recurrence.v.size(0), heads = recurrence.v.size(1), length = recurrence.v.size(2);
  const int64_t key_dim = recurrence.k.size(3), value_dim = recurrence.v.size(3);
  const auto flat = [&](const at::Tensor& values) {
    return values.defined() ? values.to(at::kFloat).flatten(0, 1) : values;
  };
  const LinearRecurrence all{flat(recurrence.q), flat(recurrence.k), flat(recurrence.v),
                             flat(recurrence.log_decay), flat(recurrence.beta)};
  const at::Tensor before = state != nullptr && state->defined()
                                ? state->flatten(0, 1)
                                : at::zeros({batch * heads, key_dim, value_dim}, all.v.options());
  std::vector<at::Tensor> outputs(static_cast<size_t>(batch * heads)), states(outputs.size());
  for_heads(all.q, [&](int64_t first, int64_t end) {
    at::Tensor own = before.narrow(0, first, end - first);
    outputs[static_cast<size_t>(first)] = run_heads(narrowed(all, 0, first, end - first), own);
    states[static_cast<size_t>(first)] = own;
  });
  const auto joined = [](std::vector<at::Tensor>& pieces) {
    pieces.erase(
        std::remove_if(pieces.begin(), pieces.end(), [](const auto& piece) { return !piece.defined(); }),
        pieces.end());
    return at::cat(pieces);
  };
  if (state != nullptr) *state = joined(states).view({batch, heads, key_dim, value_dim});
  return joined(outputs).view({batch, heads, length, value_dim});
}

at::Tensor repeat_heads(const at::Tensor& heads, int64_t value_heads, bool tiled) {
  const int64_t repeats = value_heads / heads.size(1);
  if (repeats == 1) return heads;
  return tiled ? heads.repeat({1, repeats, 1, 1}) : heads.repeat_interleave(repeats, 1);
}

}  // namespace strata
