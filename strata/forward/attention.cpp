#include "strata/forward/attention.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>

#include "strata/core/blas_threads.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kCpuBlock = 128;                 // queries: most of the causal half is skipped
constexpr int64_t kMostScores = int64_t{1} << 26;  // 256 MiB in float32

int64_t queries_per_block(const at::Tensor& q) {
  if (!q.is_cuda()) return std::min(kCpuBlock, q.size(2));
  const int64_t scores_per_query = q.size(0) * q.size(1) * q.size(2);
  return std::max<int64_t>(1, std::min(q.size(2), kMostScores / std::max<int64_t>(1, scores_per_query)));
}

// 0 where query i of a block sees key j - before, counted from the block's first query, and minus infinity
// elsewhere: [queries, before + queries]. Without a window all of a block see all keys before it.
at::Tensor mask_of(int64_t queries, int64_t before, int64_t window, at::Device device) {
  const auto index = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor query = at::arange(queries, index).unsqueeze(1);
  const at::Tensor key = at::arange(-before, queries, index).unsqueeze(0);
  at::Tensor hidden = key.gt(query);
  if (window > 0) hidden = hidden.logical_or_(key.le(query - window));
  return at::zeros({queries, before + queries}, index.dtype(at::kFloat))
      .masked_fill_(hidden, -std::numeric_limits<float>::infinity());
}

// Queries, keys and values of groups of query heads that share a key head: q [G, shared, T, D], already
// scaled; keys [G, T, D], values [G, T, D_v]; sinks [G, shared] float, undefined: none.
struct Heads {
  at::Tensor q, keys, values, sinks;
  int64_t block, window;  // queries at a time; keys that a query sees, 0: all before it
  double softcap;
  at::Tensor mask = {};  // of a block, one for all

  int64_t masked_before() const { return window > 0 ? std::min(window - 1, q.size(2)) : 0; }

  Heads masked() const {
    Heads heads = *this;
    heads.mask = mask_of(block, masked_before(), window, q.device());
    return heads;
  }

  Heads of_groups(int64_t group, int64_t count) const {
    return {q.narrow(0, group, count),
            keys.narrow(0, group, count),
            values.narrow(0, group, count),
            sinks.defined() ? sinks.narrow(0, group, count) : at::Tensor(),
            block,
            window,
            softcap,
            mask};
  }
};

// Some queries of all groups, and the keys that any of them sees. The query heads that share a key head stand
// below one another in one matrix: [G, shared * queries, ...].
struct QueryBlock {
  const Heads& heads;
  int64_t first, queries, first_key, seen;

  QueryBlock(const Heads& all, int64_t first_query)
      : heads(all),
        first(first_query),
        queries(std::min(all.block, all.q.size(2) - first_query)),
        first_key(all.window > 0 ? std::max<int64_t>(0, first_query - all.window + 1) : 0),
        seen(first_query + queries - first_key) {}

  int64_t groups() const { return heads.q.size(0); }
  int64_t shared() const { return heads.q.size(1); }
  at::Tensor q() const {
    return heads.q.narrow(2, first, queries).reshape({groups(), shared() * queries, heads.q.size(3)});
  }
  at::Tensor seen_of(const at::Tensor& of_keys) const { return of_keys.narrow(1, first_key, seen); }

  // Of values by query, [G, T, shared, D], those of this block: [G, shared * queries, D]; and back.
  at::Tensor take(const at::Tensor& by_query) const {
    return by_query.narrow(1, first, queries)
        .transpose(1, 2)
        .reshape({groups(), shared() * queries, by_query.size(3)});
  }
  void put(const at::Tensor& block, const at::Tensor& by_query) const {
    by_query.narrow(1, first, queries)
        .copy_(block.view({groups(), shared(), queries, block.size(2)}).transpose(1, 2));
  }

  // softmax(cap(q k') + mask) in float32. `slope` becomes the derivative of the cap, where there is one.
  at::Tensor weights(at::Tensor* slope = nullptr) const {
    at::Tensor scores = at::bmm(q(), seen_of(heads.keys).transpose(1, 2)).to(at::kFloat);
    if (heads.softcap > 0) {
      const at::Tensor bounded = scores.div_(heads.softcap).tanh_();
      if (slope != nullptr) *slope = 1 - bounded.square();
      scores = bounded.mul_(heads.softcap);
    }
    const int64_t before = heads.window > 0 ? first - first_key : 0;
    scores.view({groups(), shared(), queries, seen})
        .narrow(3, seen - queries - before, before + queries)
        .add_(heads.mask.narrow(0, 0, queries).narrow(1, heads.masked_before() - before, before + queries));
    return heads.sinks.defined() ? beside_sinks(scores) : at::softmax(scores, -1);
  }

  // The softmax over the keys and the sink of each head, without the weight of the sink.
  at::Tensor beside_sinks(const at::Tensor& scores) const {
    const at::Tensor sinks = heads.sinks.unsqueeze(2)
                                 .expand({groups(), shared(), queries})
                                 .reshape({groups(), shared() * queries, 1});
    return at::softmax(at::cat({scores, sinks}, -1), -1).narrow(-1, 0, seen).contiguous();
  }
};

// o = softmax(cap(q k') + mask) v into output [G, T, shared, D].
void attend(const Heads& heads, const at::Tensor& output) {
  for (int64_t first = 0; first < heads.q.size(2); first += heads.block) {
    const QueryBlock block(heads, first);
    const at::Tensor weights = block.weights().to(heads.q.scalar_type());
    block.put(at::bmm(weights, block.seen_of(heads.values)), output);
  }
}

// The gradients by q, k and v, into tensors of their shapes that hold zeros: with P the weights,
//   dV = P' dO,  dS = cap' P (dO V' - sum(dO O)),  dQ = dS K,  dK = dS' Q.
void attend_backward(const Heads& heads, const at::Tensor& output, const at::Tensor& gradient,
                     const Heads& by) {
  const at::ScalarType type = heads.q.scalar_type();
  for (int64_t first = 0; first < heads.q.size(2); first += heads.block) {
    const QueryBlock block(heads, first);
    at::Tensor slope;
    const at::Tensor weights = block.weights(&slope), by_output = block.take(gradient);
    const at::Tensor mean =
        (by_output.to(at::kFloat) * block.take(output).to(at::kFloat)).sum(-1, /*keepdim=*/true);
    block.seen_of(by.values).baddbmm_(weights.to(type).transpose(1, 2), by_output);
    at::Tensor by_scores = at::bmm(by_output, block.seen_of(heads.values).transpose(1, 2))
                               .to(at::kFloat)
                               .sub_(mean)
                               .mul_(weights);
    if (slope.defined()) by_scores.mul_(slope);
    by_scores = by_scores.to(type);
    by.q.narrow(2, first, block.queries)
        .copy_(at::bmm(by_scores, block.seen_of(heads.keys))
                   .view({block.groups(), block.shared(), block.queries, heads.q.size(3)}));
    block.seen_of(by.keys).baddbmm_(by_scores.transpose(1, 2), block.q());
  }
}

// Calls body(group, count) for all groups; on a CPU for each in a thread, as in linear(): products of one
// size, each by one thread.
void for_groups(const at::Tensor& q, const std::function<void(int64_t group, int64_t count)>& body) {
  const at::NoGradGuard no_grad;
  if (!q.is_cpu()) return body(0, q.size(0));
  const BlasThreads one_thread(1);
  parallel_for(q.size(0), 1, [&](int64_t group, int64_t) {
    const at::NoGradGuard of_this_thread;
    body(group, 1);
  });
}

// The weights are computed again in the backward pass: they take far more memory than what they are made of.
struct DifferentiableAttention : torch::autograd::Function<DifferentiableAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& keys,
                            const at::Tensor& values, const std::optional<at::Tensor>& sinks, int64_t block,
                            int64_t window, double softcap) {
    const Heads heads = Heads{q, keys, values, sinks.value_or(at::Tensor()), block, window, softcap}.masked();
    const at::Tensor output = at::empty({q.size(0), q.size(2), q.size(1), values.size(2)}, q.options());
    for_groups(q, [&](int64_t group, int64_t count) {
      attend(heads.of_groups(group, count), output.narrow(0, group, count));
    });
    context->save_for_backward({q, keys, values, output, heads.sinks});
    context->saved_data["block"] = block;
    context->saved_data["window"] = window;
    context->saved_data["softcap"] = softcap;
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const Heads heads = Heads{saved[0],
                              saved[1],
                              saved[2],
                              saved[4],
                              context->saved_data["block"].toInt(),
                              context->saved_data["window"].toInt(),
                              context->saved_data["softcap"].toDouble()}
                            .masked();
    const Heads by{
        at::zeros_like(heads.q), at::zeros_like(heads.keys), at::zeros_like(heads.values), {}, 0, 0, 0};
    for_groups(heads.q, [&](int64_t group, int64_t count) {
      attend_backward(heads.of_groups(group, count), saved[3].narrow(0, group, count),
                      gradients[0].narrow(0, group, count), by.of_groups(group, count));
    });
    return {by.q, by.keys, by.values, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionScores& scores, const at::Tensor& sinks) {
  const int64_t batch = q.size(0), heads = q.size(1), length = q.size(2), head_dim = q.size(3);
  const int64_t key_heads = k.size(1), shared = heads / key_heads, groups = batch * key_heads;
  const at::Tensor scaled = (q * scores.scale_for(head_dim)).reshape({groups, shared, length, head_dim});
  const at::Tensor keys = k.reshape({groups, length, head_dim});
  const at::Tensor values = v.reshape({groups, length, v.size(3)});
  std::optional<at::Tensor> of_groups;  // the sinks of their heads, which are not learned
  if (sinks.defined())
    of_groups = sinks.detach()
                    .to(at::kFloat)
                    .view({1, key_heads, shared})
                    .expand({batch, key_heads, shared})
                    .reshape({groups, shared});
  const at::Tensor output = DifferentiableAttention::apply(
      scaled, keys, values, of_groups, queries_per_block(q), scores.window, scores.softcap);
  return output.view({batch, key_heads, length, shared, v.size(3)})
      .transpose(1, 2)
      .reshape({batch, length, heads * v.size(3)});
}

}  // namespace strata
