#include <ATen/core/grad_mode.h>

#include <cmath>

#include "strata/calibration/second_moments.h"
#include "strata/core/progress.h"
#include "strata/core/random.h"
#include "strata/forward/load_tensor.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

// Cov[x] = E[x x'] - E[x] E[x]', [in, in] double.
at::Tensor covariance(const InputMoments& moments) {
  const double count = static_cast<double>(moments.count);
  const at::Tensor mean = moments.sums.to(moments.products.device()) / count;
  return moments.products.to(at::kDouble) / count - at::outer(mean, mean);
}

// exp(-H) with the entropy H = -sum p ln p of the eigenvalues of W Cov[x] W', p their shares of the sum: one
// over the number of directions that the outputs fill.
double compactness(const at::Tensor& weight, const at::Tensor& input_covariance) {
  const at::Tensor w = weight.to(at::kDouble);
  const at::Tensor values = at::linalg_eigvalsh(at::mm(at::mm(w, input_covariance), w.t())).clamp_min(0);
  const at::Tensor shares = values / values.sum().clamp_min(1e-300);
  return std::exp(at::xlogy(shares, shares).sum().item<double>());
}

// The rows that are queries, keys and values; in a layer without attention the matrices in their place, those
// that read what its first one reads.
std::vector<Model::Rows> projections_of(const Model& model, int layer) {
  std::vector<Model::Rows> projections;
  for (const Role role : {Role::Q, Role::K, Role::V})
    if (const auto found = model.rows_of(layer, role)) projections.push_back(*found);
  if (!projections.empty()) return projections;
  const std::vector<const Module*> modules = model.layer_modules(layer);
  for (const Module* module : modules)
    if (module->input == modules.front()->input) projections.push_back({module, 0, module->rows});
  return projections;
}

at::Tensor random_weight(int64_t rows, int64_t cols, Random& random, at::Device device) {
  at::Tensor weight = at::empty({rows, cols}, at::kFloat);
  for (int64_t i = 0; i < weight.numel(); ++i)
    weight.data_ptr<float>()[i] = static_cast<float>(random.normal());
  return weight.to(device);
}

}  // namespace

// The compactness of the outputs of q, k and v under the trained weights less that under randomly initialised
// (normal) ones with the same inputs, the mean over these: how much structure training has put there
// (LieQ's representational compactness). Where a layer does not attend, the matrices that stand in their
// place are looked at, and of attention whose queries stand between gates keys and values.
Scores score_lieq(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const at::NoGradGuard no_grad;
  ActivationStream stream = activations_of(model, options, evidence);
  Random random(options.seed);
  std::vector<double> values;
  Progress progress("measuring compactness", model.config.num_layers, "layers");
  while (!stream.at_end()) {
    const int layer = stream.layer();
    const std::vector<Model::Rows> projections = projections_of(model, layer);
    const at::Tensor inputs =
        covariance(measure_inputs(stream, true, true).at(projections.front().module->input));
    double gained = 0;
    for (const Model::Rows& rows : projections) {
      const at::Tensor trained = load_rows(*model.checkpoint, model.checkpoint->info(rows.module->tensor),
                                           rows.first, rows.count, options.device, at::kFloat);
      gained += compactness(trained, inputs) -
                compactness(random_weight(rows.count, rows.module->cols, random, options.device), inputs);
    }
    values.push_back(gained / static_cast<double>(projections.size()));
    progress.advance();
  }
  Scores scores = layer_scores(model, "lieq", values);
  scores.details["seed"] = options.seed;
  describe_calibration(scores, evidence);
  return scores;
}

}  // namespace strata
