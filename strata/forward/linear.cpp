#include "strata/forward/linear.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "strata/core/blas_threads.h"
#include "strata/core/threads.h"
#include "strata/device/products.h"

namespace strata {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Outputs of one product, and those of one for a few tokens, which would otherwise be too few for the
// threads.
constexpr int64_t kOutputs = 512, kOutputsOfFew = 128, kFewTokens = 64;

at::Tensor in_pieces(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t sequences = input.size(0), outputs = weight.size(0);
  const int64_t most = input.size(1) > kFewTokens ? kOutputs : kOutputsOfFew;
  const int64_t pieces = (outputs + most - 1) / most;
  at::Tensor output = at::empty({sequences, input.size(1), outputs}, input.options());
  const BlasThreads one_thread(1);
  parallel_for(sequences * pieces, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    for (int64_t each = begin; each < end; ++each) {
      const int64_t first = each % pieces * most, count = std::min(most, outputs - first);
      at::Tensor part = output[each / pieces].narrow(1, first, count);
      const at::Tensor rows = weight.narrow(0, first, count).t();
      if (bias.defined())
        at::addmm_out(part, bias.narrow(0, first, count), input[each / pieces], rows);
      else
        at::mm_out(part, input[each / pieces], rows);
    }
  });
  return output;
}

// The gradients of y = x W' + b by x and W.
struct DifferentiableLinear : torch::autograd::Function<DifferentiableLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const at::Tensor* bias) {
    context->save_for_backward({input, weight});
    return in_pieces(input, weight, *bias);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1], &gradient = gradients[0];
    const auto rows = [](const at::Tensor& values) { return values.reshape({-1, values.size(-1)}); };
    at::Tensor by_input, by_weight;
    if (context->needs_input_grad(0)) by_input = product(rows(gradient), weight).view_as(input);
    if (context->needs_input_grad(1)) by_weight = product(rows(gradient).t(), rows(input));
    return {by_input, by_weight, at::Tensor()};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  if (!input.is_cpu()) return at::linear(input, weight, bias);
  // Sequences decoded token by token go through together, so that weights are read once a step.
  if (input.size(1) == 1 && input.size(0) > 1)
    return strata::linear(input.transpose(0, 1), weight, bias).transpose(0, 1);
  const bool bias_learned = at::GradMode::is_enabled() && bias.defined() && bias.requires_grad();
  if (bias_learned) return strata::linear(input, weight, {}) + bias;
  const bool differentiated = at::GradMode::is_enabled() && (input.requires_grad() || weight.requires_grad());
  return differentiated ? DifferentiableLinear::apply(input, weight, &bias) : in_pieces(input, weight, bias);
}

}  // namespace strata
