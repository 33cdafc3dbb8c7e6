#include <cmath>

#include "strata/core/progress.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

// ||W - W'||_F of every matrix and scheme, neither squared nor normalised ("A Mixed Quantization Approach for
// Data-Free Quantization of LLMs", ICAART 2025). As in its code the error is that of HQQ with scales and zero
// points as they are, also where the scheme stores them in 8 bits.
Scores score_mxq(const Model& model, const SensitivityOptions& asked, const Evidence&) {
  SensitivityOptions options = asked;
  options.quantizer = QuantizerOptions();  // HQQ
  CostSheet sheet(model, "mxq", options, {});
  std::vector<double> sums;  // of a module's squared errors, by scheme
  for_each_matrix(model, sheet.modules(), "measuring Frobenius norms",
                  [&](const Module& module, int64_t expert, MatrixView<const float> weights) {
                    if (expert == 0) sums.assign(sheet.schemes().size(), 0);
                    for (const size_t s : sheet.missing(module)) {
                      Scheme scheme = sheet.schemes()[s];
                      scheme.affine.scales = ScaleStorage::Half;
                      sums[s] += quantization_error(weights, scheme, options.quantizer);
                      if (expert + 1 == module.matrices()) sheet.set(module, s, std::sqrt(sums[s]));
                    }
                  });
  return sheet.scores();
}

}  // namespace strata
