#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "strata/allocation/allocator.h"
#include "strata/calibration/calibration.h"
#include "strata/forward/decoder.h"
#include "strata/pipeline/effort.h"
#include "strata/pipeline/methods.h"

namespace strata {

// What the method "auto" stands for in an effort. Other methods are returned as they are.
MethodChoice resolve_automatic(const MethodChoice& method, const Effort& effort);

// Whether the plan of a resolved method is to be checked on tokens that its scores have not seen: what "auto"
// stands for, where its scores see any.
bool is_checked(const MethodChoice& method);

// Calibration blocks parted into those that scores see and those that check the plan, a quarter and at least
// one. Throws when there is one block only.
struct PartedCalibration {
  std::shared_ptr<const Calibration> scoring, checking;
};
PartedCalibration part_calibration(const Calibration& calibration);

// The plan of the allocator "uniform" for as many bytes.
Plan uniform_plan(const Model& model, const Scores& scores, AllocatorOptions allocator, uint64_t bytes);

struct CheckedPlan {
  Plan plan;
  std::string note;           // one sentence on which was kept, and why
  std::optional<double> kld;  // of what was kept, where that was measured
};

// The plan, or the uniform plan of the same bytes, with the same embedding and head, where that has the
// smaller KL divergence from the unquantized model on tokens held back from scoring: never worse than
// uniform, as far as these tokens tell. `kld_of` quantizes the model by a plan and measures it; the plan at
// hand comes last.
CheckedPlan check_against_uniform(const Model& model, const Plan& plan, const Scores& scores,
                                  const AllocatorOptions& allocator,
                                  const std::function<double(const Plan&)>& kld_of);

// KL divergence of a decoder from a reference on calibration blocks.
double kld_on(const Calibration& calibration, Decoder& decoder, Decoder& reference);

}  // namespace strata
