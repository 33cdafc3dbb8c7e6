#include "strata/model/linear.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/core/blas_threads.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

constexpr int64_t kOutputs = 512;  // of one product

}  // namespace

at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const bool differentiated = at::GradMode::is_enabled() && (input.requires_grad() || weight.requires_grad());
  if (!input.is_cpu() || differentiated) return at::linear(input, weight, bias);
  // Sequences decoded token by token go through together, so that weights are read once a step.
  if (input.size(1) == 1 && input.size(0) > 1)
    return strata::linear(input.transpose(0, 1), weight, bias).transpose(0, 1);
  const int64_t sequences = input.size(0), outputs = weight.size(0);
  const int64_t pieces = (outputs + kOutputs - 1) / kOutputs;
  at::Tensor output = at::empty({sequences, input.size(1), outputs}, input.options());
  const BlasThreads one_thread(1);
  parallel_for(sequences * pieces, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    for (int64_t product = begin; product < end; ++product) {
      const int64_t first = product % pieces * kOutputs, count = std::min(kOutputs, outputs - first);
      at::Tensor part = output[product / pieces].narrow(1, first, count);
      const at::Tensor rows = weight.narrow(0, first, count).t();
      if (bias.defined())
        at::addmm_out(part, bias.narrow(0, first, count), input[product / pieces], rows);
      else
        at::mm_out(part, input[product / pieces], rows);
    }
  });
  return output;
}

}  // namespace strata
