#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "strata/cli/common.h"
#include "strata/sensitivity/method.h"

namespace strata::cli {

// Options of the scoring methods, shared by score, quantize and compare.
struct SensitivityCliOptions {
  double tau = 0.90;
  std::string entropy = "multiply", mad = "consistent";
  CalibrationOptions calibration;
  std::string cache, imatrix, kl_precision = "float32";
  int64_t kl_tokens = KlOptions().tokens, infoq_tokens = InfoqOptions().tokens;
  HighImpactOptions high_impact;
  std::string loss = "layer";
  bool grouped_query_rule = false;

  void add_to(CLI::App& command);
  SensitivityOptions resolve(const CommonOptions& common) const;

 private:
  void add_calibration_to(CLI::App& command);
  void add_nsds_to(CLI::App& command);
};

// "nsds, kurtosis, ..." for help texts.
std::string method_list();

}  // namespace strata::cli
