#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "strata/calibration/second_moments.h"
#include "strata/core/progress.h"
#include "strata/device/products.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/methods.h"

namespace strata {
namespace {

// Calls see(expert, its rows) for a module's matrix, or for every one of its stack.
template <class See>
void for_each_expert(const Module& module, const at::Tensor& weights, const See& see) {
  const int64_t rows = module.rows_of_matrix();
  for (int64_t expert = 0; expert < module.matrices(); ++expert)
    see(expert, weights.narrow(0, expert * rows, rows));
}

// E |D x|^2 = trace(D E[x x'] D'), of a stack the sum over the experts of a token.
double expected_square(const Module& module, const at::Tensor& difference,
                       const std::map<std::string, InputMoments>& moments, int64_t tokens) {
  double sum = 0;
  for_each_expert(module, difference, [&](int64_t expert, const at::Tensor& of_expert) {
    sum += total(product(of_expert, moments.at(input_of(module, expert)).products).mul_(of_expert));
  });
  return sum / static_cast<double>(tokens);
}

// The same when all that is known are E[x_j^2]: products of different inputs count as zero. `shares` are
// those of the tokens that every expert reads.
double expected_square(const Module& module, const at::Tensor& difference,
                       const std::vector<float>& mean_squares, const std::vector<double>& shares) {
  const at::Tensor means =
      at::tensor(mean_squares, at::kFloat).to(difference.device()).view({module.matrices(), -1});
  double sum = 0;
  for_each_expert(module, difference, [&](int64_t expert, const at::Tensor& of_expert) {
    sum += shares[static_cast<size_t>(expert)] * total(of_expert.square() * means[expert]);
  });
  return sum;
}

// Of a matrix that all tokens read, 1.
std::vector<double> shares_of_tokens(const Model& model, const Module& module, const Imatrix& imatrix) {
  std::vector<double> shares = imatrix.entries.at(module.tensor).counts;
  const double all = std::accumulate(shares.begin(), shares.end(), 0.0);
  const double used =
      module.experts > 0 ? static_cast<double>(std::max<int64_t>(1, model.config.experts.used)) : 1;
  for (double& share : shares) share *= used / all;
  return shares;
}

void measure_by_imatrix(const Model& model, const Imatrix& imatrix, CostSheet& sheet) {
  Progress progress("measuring output errors", static_cast<int64_t>(model.modules.size()), "matrices");
  for (const Module& module : model.modules) {
    const std::vector<float> mean_squares = imatrix.mean_squares(module.tensor);
    const std::vector<double> shares = shares_of_tokens(model, module, imatrix);
    sheet.for_each_missing(module, [&](size_t scheme, const at::Tensor& exact, const at::Tensor& quantized) {
      sheet.set(module, scheme, expected_square(module, exact - quantized, mean_squares, shares));
    });
    progress.advance();
  }
}

void measure_by_tokens(const Model& model, const SensitivityOptions& options, const Evidence& evidence,
                       CostSheet& sheet) {
  ActivationStream stream = activations_of(model, options, evidence);
  Progress progress("measuring output errors", model.config.num_layers, "layers");
  while (!sheet.is_complete()) {
    const int layer = stream.layer();
    if (sheet.is_complete(layer)) {
      stream.advance();
    } else {
      const auto moments = measure_inputs(stream, true, true);
      for (const Module& module : model.modules)
        if (module.layer == layer)
          sheet.for_each_missing(module, [&](size_t scheme, const at::Tensor& exact,
                                             const at::Tensor& quantized) {
            sheet.set(module, scheme,
                      expected_square(module, exact - quantized, moments, evidence.calibration->tokens()));
          });
    }
    progress.advance();
  }
}

}  // namespace

// E |(W - W') x|^2 over the calibration tokens x that enter the module in the unquantized model, summed over
// outputs: the objective of layer-wise quantization (GPTQ, arXiv 2210.17323, equation 1). An imatrix gives
// the diagonal of E[x x'] alone.
Scores score_output_error(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const at::NoGradGuard no_grad;
  CostSheet sheet(model, "output-error", options, evidence);
  if (evidence.imatrix)
    measure_by_imatrix(model, *evidence.imatrix, sheet);
  else
    measure_by_tokens(model, options, evidence, sheet);
  Scores scores = sheet.scores();
  if (!evidence.imatrix) describe_calibration(scores, evidence);
  if (evidence.imatrix) scores.details["imatrix"] = evidence.imatrix->fingerprint();
  return scores;
}

}  // namespace strata
