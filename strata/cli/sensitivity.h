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

  void add_to(CLI::App& command);
  SensitivityOptions resolve(const CommonOptions& common) const;
};

// "nsds, kurtosis, ..." for help texts.
std::string method_list();

}  // namespace strata::cli
