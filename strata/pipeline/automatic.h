#pragma once

#include <memory>
#include <string>

#include "strata/allocation/allocator.h"
#include "strata/calibration/calibration.h"
#include "strata/model/decoder.h"
#include "strata/pipeline/methods.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// What the method "auto" stands for: measured KL divergence with calibration tokens, the schemes' relative
// errors alone without (docs/results.md compares them). Other methods are returned as they are.
MethodChoice resolve_automatic(const MethodChoice& method, bool calibrated);

// Calibration blocks parted into those that scores see and those that check the plan, a quarter and at least
// one. Throws when there is one block only.
struct PartedCalibration {
  std::shared_ptr<const Calibration> scoring, checking;
};
PartedCalibration part_calibration(const Calibration& calibration);

struct CheckedPlan {
  Plan plan;
  double kld = 0, uniform_kld = 0;  // on the checking blocks
  std::string note;                 // one sentence on which was kept
};

// Quantizes by a plan and by the uniform plan of the same bytes, in memory, and keeps the one of smaller KL
// divergence from the unquantized model on `checking`: never worse than uniform, as far as these tokens tell.
CheckedPlan check_against_uniform(const Model& model, const Plan& plan, const Scores& scores,
                                  const AllocatorOptions& allocator, const QuantizerOptions& quantizer,
                                  CalibratedQuantizer* calibrated, const Calibration& checking,
                                  const DecoderOptions& options);

}  // namespace strata
