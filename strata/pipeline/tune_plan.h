#pragma once

#include <memory>

#include "strata/export/export.h"
#include "strata/export/formats.h"
#include "strata/quantizers/tuning.h"

namespace strata {

// Mean KL divergence from the unquantized model, in nats, on calibration windows that tuning held back.
struct TuningReport {
  double before = 0, after = 0;
};

// Quantizes everything that a plan for `model` quantizes, embedding and head included, and tunes it end to
// end as the format stores it. Afterwards plan.calibrated hands the tuned matrices out, and `model` is the
// one with the tuned norms and biases, which is to be written. Throws as tune() does.
TuningReport tune_plan(const Model& unquantized, std::shared_ptr<const Model>& model, ExportPlan& plan,
                       const ExportFormat& format, const Calibration& calibration, TuningOptions options);

}  // namespace strata
