#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strata/calibration/calibration.h"
#include "strata/calibration/gptq.h"
#include "strata/model/model.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// How --quantizer turns matrices into stored ones.
struct QuantizerChoice {
  std::string name = "hqq";  // one of quantizer_choices()
  GptqOptions gptq;
  bool sequential = true;  // gptq: see LayerwiseOptions
  RowImpacts row_impacts;  // calibrated quantizers: which rows get more bits, see LayerwiseOptions
};

// "rtn" and "hqq", which look at weights alone; "importance", which weighs them with their inputs; "gptq";
// "awq" (scales searched and folded, then hqq), and "awq+gptq".
std::vector<std::string> quantizer_choices();

// Throws UsageError for a name that is not known.
bool needs_calibration(const QuantizerChoice& choice);

// A model and what quantizes it.
struct PreparedQuantizer {
  std::shared_ptr<const Model> model;               // as given, or its equivalent with AWQ's scales
  QuantizerOptions plain;                           // quantizes what `calibrated` does not
  std::shared_ptr<CalibratedQuantizer> calibrated;  // uses *model; null where weights alone are looked at
};

// Makes a quantizer ready for matrices that get these schemes. The model must outlive the result.
PreparedQuantizer prepare_quantizer(const Model& model, const std::map<std::string, Scheme>& schemes,
                                    const QuantizerChoice& choice,
                                    std::shared_ptr<const Calibration> calibration, at::Device device);

}  // namespace strata
