#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "strata/calibration/calibration.h"
#include "strata/core/options.h"
#include "strata/model/model.h"
#include "strata/quantization/calibrated_quantizer.h"
#include "strata/quantization/scheme_trials.h"

namespace strata {

// How --quantizer turns matrices into stored ones.
struct QuantizerChoice {
  std::string name = "hqq";  // of quantizers(), or "auto"
  OptionValues options;      // what the quantizers declare

  static QuantizerChoice automatic() {
    QuantizerChoice choice;
    choice.name = "auto";
    return choice;
  }
};

// What quantizers look at beside the weights.
struct QuantizerInputs {
  std::shared_ptr<const Calibration> calibration;
  RowImpacts row_impacts;  // calibrated quantizers: which rows get more bits in schemes that mix rows
  at::Device device = at::kCPU;
  uint64_t seed = 0;
  std::filesystem::path cache;  // where finished layers are kept; empty: nowhere
};

// A model and what quantizes it.
struct PreparedQuantizer {
  std::shared_ptr<const Model> model;               // as given, or its equivalent with AWQ's scales
  QuantizerOptions plain;                           // quantizes what `calibrated` does not
  std::shared_ptr<CalibratedQuantizer> calibrated;  // uses *model; null where weights alone are looked at
};

// A way to quantize the matrices of a model.
struct Quantizer {
  std::string name;
  std::string summary;  // one line, for --help
  bool needs_calibration = false;
  DeclareOptions options = nullptr;  // of its own; null = none
  // Why it cannot make a scheme, in one sentence; empty where it can. Null: it makes all.
  std::string (*refusal)(const Quantizer& quantizer, const Scheme& scheme,
                         const OptionValues& options) = nullptr;
  // Fills in what differs from rounding `prepared.model` by `prepared.plain`, which has the quantizer's name.
  // Null: nothing does.
  void (*prepare)(PreparedQuantizer& prepared, const std::map<std::string, Scheme>& schemes,
                  const OptionValues& options, const QuantizerInputs& inputs) = nullptr;
  // A quicker one of this name takes its place where plans are only compared; empty: it is quick enough.
  std::string stand_in = "";
  // What it would make of single matrices, for costs of schemes; null: what rounding to nearest makes stands
  // in.
  std::shared_ptr<SchemeTrials> (*trials)(const Model& model, const OptionValues& options,
                                          const QuantizerInputs& inputs) = nullptr;
  // Whether a scheme has something that it learns: of a menu, one must. Null: all have.
  bool (*learns)(const Scheme& scheme) = nullptr;
  bool takes_experts = true;  // whether it quantizes stacks of experts
};

// All quantizers; a new one is a line here.
const std::vector<Quantizer>& quantizers();

// The quantizer of this name; throws UsageError listing those there are.
const Quantizer& find_quantizer(std::string_view name);

// The choice, with this quantizer in the place of "auto".
QuantizerChoice resolve_automatic(QuantizerChoice choice, const std::string& automatic);

// What quantizes in the place of the choice where plans are only compared.
QuantizerChoice stand_in_for(QuantizerChoice choice);

// Throws UsageError for a scheme of a menu, or a matrix of the model, that the quantizer cannot make: to be
// asked before scores are measured.
void require_quantizable(const Model& model, const QuantizerChoice& choice, const std::vector<Scheme>& menu);

// Whether its options ask for groups that are not of neighbouring columns (AffineMatrix::group_of_column).
bool scatters_groups(const QuantizerChoice& choice);

// Trials of the choice, or of what stands in for it; null where it has none. The model must outlive them.
std::shared_ptr<SchemeTrials> trials_of(const Model& model, const QuantizerChoice& choice,
                                        const QuantizerInputs& inputs);

// Makes a quantizer ready for matrices that get these schemes. The model must outlive the result.
PreparedQuantizer prepare_quantizer(const Model& model, const std::map<std::string, Scheme>& schemes,
                                    const QuantizerChoice& choice, const QuantizerInputs& inputs);

}  // namespace strata
