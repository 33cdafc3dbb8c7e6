#include <ATen/core/grad_mode.h>

#include "strata/calibration/second_moments.h"
#include "strata/core/progress.h"
#include "strata/device/products.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/methods.h"

namespace strata {
namespace {

// E |D x|^2 = trace(D E[x x'] D').
double expected_square(const at::Tensor& difference, const InputMoments& moments) {
  const double sum = total(product(difference, moments.products).mul_(difference));
  return sum / static_cast<double>(moments.count);
}

// The same when all that is known are E[x_j^2]: products of different inputs count as zero.
double expected_square(const at::Tensor& difference, const std::vector<float>& mean_squares) {
  const at::Tensor means = at::tensor(mean_squares, at::kFloat).to(difference.device());
  return total(difference.square() * means);
}

void measure_by_imatrix(const Model& model, const Imatrix& imatrix, CostSheet& sheet) {
  Progress progress("measuring output errors", static_cast<int64_t>(model.modules.size()), "matrices");
  for (const Module& module : model.modules) {
    const std::vector<float> mean_squares = imatrix.mean_squares(module.tensor);
    sheet.for_each_missing(module, [&](size_t scheme, const at::Tensor& exact, const at::Tensor& quantized) {
      sheet.set(module, scheme, expected_square(exact - quantized, mean_squares));
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
          sheet.for_each_missing(
              module, [&](size_t scheme, const at::Tensor& exact, const at::Tensor& quantized) {
                sheet.set(module, scheme, expected_square(exact - quantized, moments.at(module.input)));
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
