#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strata/calibration/calibration.h"
#include "strata/model/model.h"
#include "strata/quantization/calibrated_quantizer.h"
#include "strata/quantizers/gptq.h"
#include "strata/quantizers/layer_output_quantizer.h"

namespace strata {

// How --quantizer turns matrices into stored ones.
struct QuantizerChoice {
  std::string name = "hqq";  // one of quantizer_choices()
  GptqOptions gptq;
  bool sequential = true;       // gptq: see LayerwiseOptions
  LayerOutputOptions learning;  // adaround, lwc, hybrid, which set the rest of it
  RowImpacts row_impacts;       // calibrated quantizers: which rows get more bits, see LayerwiseOptions

  static QuantizerChoice automatic() {
    QuantizerChoice choice;
    choice.name = "auto";
    return choice;
  }
};

// What "auto" stands for: gptq with calibration tokens, hqq without (docs/results.md compares them). Other
// choices are returned as they are.
QuantizerChoice resolve_automatic(QuantizerChoice choice, bool calibrated);

// "rtn" and "hqq", which look at weights alone; "importance", which weighs them with their inputs; "gptq";
// "awq" (scales searched and folded, then hqq), and "awq+gptq"; "adaround", "lwc" (learnable clipping) and
// "hybrid" of both, which learn a layer's matrices against its output.
std::vector<std::string> quantizer_choices();

// Throws UsageError for a name that is not known.
bool needs_calibration(const QuantizerChoice& choice);

// Throws UsageError for a scheme of a menu that the quantizer cannot make: to be asked before scores are
// measured.
void require_quantizable(const QuantizerChoice& choice, const std::vector<Scheme>& menu);

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
