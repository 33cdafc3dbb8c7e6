#include "strata/vision/hessian.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "strata/core/progress.h"
#include "strata/core/random.h"
#include "strata/device/device.h"
#include "strata/vision/top_k.h"

namespace strata::vision {
namespace {

constexpr int64_t kBatch = 32;  // gradients of gradients hold every activation several times

// A tensor of random signs, the same on every device.
at::Tensor random_signs(const at::Tensor& like, Random& random) {
  at::Tensor signs = at::empty(like.sizes(), at::kFloat);
  float* values = signs.data_ptr<float>();
  uint64_t bits = 0;
  for (int64_t i = 0; i < signs.numel(); ++i) {
    if (i % 64 == 0) bits = random.next();
    values[i] = bits & 1 ? 1.0f : -1.0f;
    bits >>= 1;
  }
  return signs.to(like.device());
}

// v' H v of one batch, for every variable.
std::vector<double> quadratic_forms(const std::vector<at::Tensor>& gradients,
                                    const std::vector<at::Tensor>& variables, Random& random) {
  std::vector<at::Tensor> signs;
  for (const at::Tensor& variable : variables) signs.push_back(random_signs(variable, random));
  const std::vector<at::Tensor> products =
      torch::autograd::grad(gradients, variables, signs, /*retain_graph=*/true,
                            /*create_graph=*/false, /*allow_unused=*/true);
  std::vector<double> forms;
  for (size_t i = 0; i < variables.size(); ++i)
    forms.push_back(products[i].defined() ? (products[i] * signs[i]).sum().item<double>() : 0.0);
  return forms;
}

}  // namespace

HessianTraces estimate_traces(const Graph& graph, const ImageSet& images, int samples, uint64_t seed) {
  use_threads();
  const size_t count = graph.layers().size();
  HessianTraces traces{std::vector<double>(count, 0.0), std::vector<double>(count, 0.0)};
  Random random(seed ^ 0x4e55a1a9);
  Progress progress("Estimating the Hessian", (images.size() + kBatch - 1) / kBatch * samples, "products");
  for (int64_t first = 0; first < images.size(); first += kBatch) {
    const int64_t batch = std::min(kBatch, images.size() - first);
    std::vector<at::Tensor> variables(2 * count);  // the weights, then the inputs
    Overrides overrides(count);
    for (size_t l = 0; l < count; ++l) {
      overrides[l].weight = variables[l] = graph.layers()[l].weight.detach().clone().set_requires_grad(true);
      overrides[l].input = [&variables, l, count](const at::Tensor& input) {
        at::Tensor variable = input.requires_grad() ? input.alias() : input.detach().set_requires_grad(true);
        return variables[count + l] = variable;
      };
    }
    const Tensors inputs = images.batch(first, batch, graph.device());
    const at::Tensor labels =
        at::tensor(std::vector<int64_t>(images.labels.begin() + first, images.labels.begin() + first + batch),
                   at::kLong)
            .to(graph.device());
    const at::Tensor logits = logits_of(graph, Execution(graph, inputs).finish(overrides), batch);
    images.check_labels(logits.size(1));
    const at::Tensor loss = at::nll_loss(at::log_softmax(logits, 1), labels);
    const std::vector<at::Tensor> gradients =
        torch::autograd::grad({loss}, variables, {}, /*retain_graph=*/true, /*create_graph=*/true);
    const double share = static_cast<double>(batch) / static_cast<double>(images.size()) / samples;
    for (int s = 0; s < samples; ++s) {
      const std::vector<double> forms = quadratic_forms(gradients, variables, random);
      for (size_t l = 0; l < count; ++l) {
        traces.weights[l] += share * forms[l];
        traces.inputs[l] += share * forms[count + l];
      }
      progress.advance();
    }
  }
  return traces;
}

}  // namespace strata::vision
