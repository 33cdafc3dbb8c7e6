#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "strata/allocation/scores.h"
#include "strata/calibration/calibration.h"
#include "strata/calibration/imatrix.h"
#include "strata/model/model.h"
#include "strata/quantization/mixed_rows.h"
#include "strata/quantization/quantizer.h"
#include "strata/quantization/scheme.h"
#include "strata/sensitivity/nsds_options.h"

namespace strata {

struct WeightErrors;

struct KlOptions {
  int64_t tokens = 2048;              // of the calibration's, in whole blocks
  at::ScalarType dtype = at::kFloat;  // or at::kBFloat16: faster on a GPU, with a floor of noise
};

// The measurements of high-impact parameter ratios (arXiv 2511.17801).
struct HighImpactOptions {
  int64_t tokens = 2048;  // of the calibration's, in whole blocks, that losses are measured on
  enum class Loss { Layer, Logits } loss = Loss::Layer;  // where: a layer's own output, or the model's logits
  bool interactions = true;  // also of every two modules of a layer; otherwise of single modules alone
};

struct InfoqOptions {
  int64_t tokens = 2048;      // of the calibration's, in whole windows
  int64_t buckets = 16;       // of next tokens, about equally frequent
  int64_t directions = 128;   // of sliced mutual information
  int neighbours = 3;         // of its estimator
  int observers = 8;          // layers behind which the residual stream is read, at most
  bool inverse_width = true;  // the factor 1 / bits
};

struct SensitivityOptions {
  NsdsOptions nsds;
  at::Device device = at::kCPU;  // where tensors are computed
  uint64_t seed = 0;             // of everything random

  // Schemes to give the cost of for every module; none gives scores alone. The low width of `weight-error` is
  // the scheme with the fewest stored bits, w2g64 where there is none.
  std::vector<Scheme> schemes;
  QuantizerOptions quantizer = round_to_nearest();  // what measures the weight errors

  // Weight errors measured before with these schemes, for scoring one model with several methods.
  std::shared_ptr<const WeightErrors> errors;

  // Tokens for the methods that need them: where they come from, or as read before. score() reads them when a
  // method needs them and they are not here yet.
  CalibrationOptions calibration_source;
  std::shared_ptr<const Calibration> calibration;

  // Mean squares of the inputs from a file, or as read before: they serve output-error instead of tokens, and
  // weigh the errors that encoders of GGUF types make.
  std::filesystem::path imatrix_file;
  std::shared_ptr<const Imatrix> imatrix;

  // Impacts of rows, as measured before: they say which rows of schemes that mix rows have high bits.
  std::shared_ptr<const RowImpacts> row_impacts;

  // Results of methods that measure every (module, scheme) are saved here as they come, and found here by a
  // later run; empty = nowhere.
  std::filesystem::path cache;

  KlOptions kl;
  HighImpactOptions high_impact;
  InfoqOptions infoq;
  bool grouped_query_rule = false;  // sensiboost: with grouped queries o takes the score of q, k and v

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
  bool needs_calibration = false;  // options.calibration is there when it scores
  std::function<Scores(const Model&, const SensitivityOptions&)> score;
  bool takes_imatrix = false;  // instead of calibration
};

// Whether a method scores with calibration tokens, given these options.
bool needs_tokens(const SensitivityMethod& method, const SensitivityOptions& options);

// Every method, in the order in which they are listed to the user.
const std::vector<SensitivityMethod>& sensitivity_methods();

// The method of this name; throws UsageError listing those there are.
const SensitivityMethod& sensitivity_method(std::string_view name);

// Reads options.imatrix_file into options.imatrix, unless there is one; throws when it is another model's.
void load_imatrix(const Model& model, SensitivityOptions& options);

bool mixes_rows(const std::vector<Scheme>& schemes);

// Measures options.row_impacts on options.calibration, unless they are there, for schemes that mix rows;
// otherwise, and without tokens, they are left to choose_high_rows.
void load_row_impacts(const Model& model, const std::vector<Scheme>& schemes, SensitivityOptions& options);

// Scores a model's layers or modules, and the costs of options.schemes: as the method measures them, or else
// as they follow from the scores (costs.h).
Scores score(const Model& model, std::string_view method, const SensitivityOptions& options);

}  // namespace strata
