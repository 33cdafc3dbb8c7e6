#include "strata/quantizers/divergence_loss.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "strata/calibration/reference_distribution.h"
#include "strata/device/products.h"
#include "strata/forward/ends.h"

namespace strata {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Logits that are in memory at a time, of each model: few enough for the caches of a CPU, enough to fill a
// GPU; and the fewest rows of them, since both heads are read for each piece.
constexpr int64_t kCpuLogits = int64_t{1} << 20, kCudaLogits = int64_t{1} << 27, kFewestRows = 32;

// Softmax and what follows are not for 16 bits.
at::Tensor logits_of(const at::Tensor& hidden, const at::Tensor& head, double softcap) {
  const at::Tensor products = product(hidden, head.t());
  const at::Tensor logits = products.scalar_type() == at::kBFloat16 ? products.to(at::kFloat) : products;
  return softcapped(logits, softcap);
}

int64_t rows_per_piece(const at::Tensor& hidden, const at::Tensor& head) {
  const int64_t logits = hidden.is_cuda() ? kCudaLogits : kCpuLogits;
  return std::min(std::max(logits / head.size(0), kFewestRows), hidden.size(0));
}

struct DivergenceLoss : torch::autograd::Function<DivergenceLoss> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& teacher, const at::Tensor& teacher_head, double scale,
                            double softcap) {
    const int64_t rows = hidden.size(0), piece = rows_per_piece(hidden, head);
    const bool head_learned = head.requires_grad();
    at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
    at::Tensor by_hidden = at::empty_like(hidden);
    at::Tensor by_head = head_learned ? at::zeros_like(head) : at::Tensor();
    for (int64_t first = 0; first < rows; first += piece) {
      const int64_t count = std::min(piece, rows - first);
      const at::Tensor some = hidden.narrow(0, first, count);
      const at::Tensor log_p =
          at::log_softmax(logits_of(teacher.narrow(0, first, count), teacher_head, softcap), -1);
      const at::Tensor logits = logits_of(some, head, softcap);
      const at::Tensor log_q = at::log_softmax(logits, -1);
      const at::Tensor p = log_p.exp();
      sum += log_p.sub(log_q).mul_(p).sum(-1).sum(at::kDouble);
      at::Tensor by_products = log_q.exp().sub_(p).mul_(scale / static_cast<double>(rows));
      if (softcap > 0) by_products.mul_(1 - (logits / softcap).square());
      const at::Tensor by_logits = by_products.to(hidden.scalar_type());
      by_hidden.narrow(0, first, count).copy_(product(by_logits, head));
      if (head_learned) add_product(by_head, by_logits.t(), some);
    }
    context->saved_data["by_hidden"] = by_hidden;
    if (head_learned) context->saved_data["by_head"] = by_head;
    return sum * (scale / static_cast<double>(rows));
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto times = [&](const char* name) {
      const auto found = context->saved_data.find(name);
      return found == context->saved_data.end()
                 ? at::Tensor()
                 : found->second.toTensor() * gradients[0].to(found->second.toTensor().scalar_type());
    };
    return {times("by_hidden"), times("by_head"), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor divergence_loss(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& teacher,
                           const at::Tensor& teacher_head, double scale, double softcap) {
  return DivergenceLoss::apply(hidden, head, teacher, teacher_head, scale, softcap);
}

at::Tensor divergence_sum(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& teacher,
                          const at::Tensor& teacher_head, double softcap) {
  const int64_t rows = hidden.size(0), piece = rows_per_piece(hidden, head);
  at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
  for (int64_t first = 0; first < rows; first += piece) {
    const int64_t count = std::min(piece, rows - first);
    const at::Tensor log_p =
        at::log_softmax(logits_of(teacher.narrow(0, first, count), teacher_head, softcap), -1);
    const at::Tensor logits = logits_of(hidden.narrow(0, first, count), head, softcap);
    sum += row_divergences(log_p, log_p.exp(), logits).sum(at::kDouble);
  }
  return sum;
}

}  // namespace strata
