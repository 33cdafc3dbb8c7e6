#include "strata/model/attention.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "strata/core/blas_threads.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

constexpr int64_t kCpuBlock = 128;                 // queries: most of the causal half is skipped
constexpr int64_t kMostScores = int64_t{1} << 26;  // 256 MiB in float32

int64_t queries_per_block(const at::Tensor& q) {
  if (!q.is_cuda()) return std::min(kCpuBlock, q.size(2));
  const int64_t scores_per_query = q.size(0) * q.size(1) * q.size(2);
  return std::max<int64_t>(1, std::min(q.size(2), kMostScores / std::max<int64_t>(1, scores_per_query)));
}

// 0 where query first_query + i sees key first_key + j, and minus infinity elsewhere.
at::Tensor mask_of(int64_t first_query, int64_t queries, int64_t first_key, int64_t keys, int64_t window,
                   at::Device device) {
  const auto index = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor query = at::arange(first_query, first_query + queries, index).unsqueeze(1);
  const at::Tensor key = at::arange(first_key, first_key + keys, index).unsqueeze(0);
  at::Tensor hidden = key.gt(query);
  if (window > 0) hidden = hidden.logical_or_(key.le(query - window));
  return at::zeros({queries, keys}, index.dtype(at::kFloat))
      .masked_fill_(hidden, -std::numeric_limits<float>::infinity());
}

// Groups of query heads that share a key head, q [G, shared, T, D] already scaled; keys, values [G, T, D];
// the result goes to output [G, T, shared, D].
void attend(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values, int64_t block,
            int64_t window, at::Tensor output) {
  const int64_t groups = q.size(0), shared = q.size(1), length = q.size(2), head_dim = q.size(3);
  for (int64_t first = 0; first < length; first += block) {
    const int64_t queries = std::min(block, length - first);
    const int64_t first_key = window > 0 ? std::max<int64_t>(0, first - window + 1) : 0;
    const int64_t seen = first + queries - first_key;
    // The query heads that share a key head stand below one another in one matrix.
    const at::Tensor q_block = q.narrow(2, first, queries).reshape({groups, shared * queries, head_dim});
    at::Tensor scores = at::bmm(q_block, keys.narrow(1, first_key, seen).transpose(1, 2)).to(at::kFloat);
    // Without a window every query of the block sees all keys before the block.
    const int64_t masked_from = window > 0 ? 0 : first - first_key;
    scores.view({groups, shared, queries, seen})
        .narrow(3, masked_from, seen - masked_from)
        .add_(mask_of(first, queries, first_key + masked_from, seen - masked_from, window, q.device()));
    const at::Tensor weights = at::softmax(scores, -1).to(q.scalar_type());
    const at::Tensor mixed = at::bmm(weights, values.narrow(1, first_key, seen));
    output.narrow(1, first, queries).copy_(mixed.view({groups, shared, queries, head_dim}).transpose(1, 2));
  }
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window) {
  const int64_t batch = q.size(0), heads = q.size(1), length = q.size(2), head_dim = q.size(3);
  const int64_t key_heads = k.size(1), shared = heads / key_heads, groups = batch * key_heads;
  const at::Tensor scaled =
      (q * (1 / std::sqrt(static_cast<double>(head_dim)))).reshape({groups, shared, length, head_dim});
  const at::Tensor keys = k.reshape({groups, length, head_dim});
  const at::Tensor values = v.reshape({groups, length, head_dim});
  at::Tensor output = at::empty({groups, length, shared, head_dim}, q.options());
  const int64_t block = queries_per_block(q);
  const bool differentiated =
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  if (!q.is_cpu() || differentiated) {
    attend(scaled, keys, values, block, window, output);
  } else {
    // As in linear(): products of one size, each by one thread.
    const BlasThreads one_thread(1);
    parallel_for(groups, 1, [&](int64_t group, int64_t) {
      const at::NoGradGuard no_grad;  // of this thread
      const auto of_group = [&](const at::Tensor& all) { return all.narrow(0, group, 1); };
      attend(of_group(scaled), of_group(keys), of_group(values), block, window, of_group(output));
    });
  }
  return output.view({batch, key_heads, length, shared, head_dim})
      .transpose(1, 2)
      .reshape({batch, length, heads * head_dim});
}

}  // namespace strata
