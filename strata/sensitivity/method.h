#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "strata/allocation/scores.h"
#include "strata/core/options.h"
#include "strata/model/model.h"
#include "strata/quantization/quantizer.h"
#include "strata/quantization/scheme.h"
#include "strata/quantization/scheme_trials.h"
#include "strata/sensitivity/evidence.h"

namespace strata {

// How to score, whatever the method.
struct SensitivityOptions {
  at::Device device = at::kCPU;  // where tensors are computed
  uint64_t seed = 0;             // of everything random

  // Schemes to give the cost of for every module; none gives scores alone. The low width of `weight-error` is
  // the scheme with the fewest stored bits, w2g64 where there is none.
  std::vector<Scheme> schemes;
  QuantizerOptions quantizer = round_to_nearest();  // what measures the weight errors
  // What makes the weights in the schemes whose divergences `kl` measures; null: `quantizer`.
  std::shared_ptr<SchemeTrials> trials;
  std::vector<Module> boundaries;  // embedding and head, where they are to have costs too

  // Results of methods that measure every (module, scheme) are saved here as they come, and found here by a
  // later run; empty = nowhere.
  std::filesystem::path cache;

  OptionValues methods;  // what single methods declare

  static QuantizerOptions round_to_nearest() {
    QuantizerOptions options;
    options.name = "rtn";
    return options;
  }
};

// A way to tell how fragile the parts of a model are.
struct SensitivityMethod {
  std::string name;
  std::string summary;             // one line, for --help
  bool needs_calibration = false;  // evidence.calibration is there when it scores
  Scores (*score)(const Model&, const SensitivityOptions&, const Evidence&) = nullptr;
  DeclareOptions options = nullptr;  // of its own; null = none
  bool takes_imatrix = false;        // instead of calibration
  bool measures_boundaries = false;  // gives costs of embedding and head, too; for others see costs.h
};

// Whether a method scores with calibration tokens, given an imatrix or none.
bool needs_tokens(const SensitivityMethod& method, bool has_imatrix);

// Every method, in the order in which they are listed to the user.
const std::vector<SensitivityMethod>& sensitivity_methods();

// The method of this name; throws UsageError listing those there are.
const SensitivityMethod& sensitivity_method(std::string_view name);

bool mixes_rows(const std::vector<Scheme>& schemes);

// The evidence's impacts of rows, or else those measured on its tokens where the schemes mix rows; null
// without tokens: the rows are then left to choose_high_rows.
std::shared_ptr<const RowImpacts> row_impacts_for(const Model& model, const std::vector<Scheme>& schemes,
                                                  const SensitivityOptions& options,
                                                  const Evidence& evidence);

// Scores a model's layers or modules, and the costs of options.schemes: as the method measures them, or else
// as they follow from the scores (costs.h). Throws where the method needs tokens and the evidence has none.
Scores score(const Model& model, std::string_view method, const SensitivityOptions& options,
             const Evidence& evidence = {});

// The same without costs where the method measures none.
Scores score_without_costs(const Model& model, std::string_view method, const SensitivityOptions& options,
                           const Evidence& evidence);

// Costs from the scores and measured weight errors, where there are none.
void add_costs(Scores& scores, const WeightErrors& errors);

}  // namespace strata
