#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "strata/quantizers/quantizers.h"

namespace strata::cli {

// Options of the quantizers, shared by quantize and compare.
struct QuantizerCliOptions {
  std::string names;
  std::string act_order = "off", scales = "as-reached";
  double damping = 0.01;
  bool one_pass = false;
  LayerOutputOptions learning;

  // `many`: --quantizer takes a list; otherwise one, which may be "auto".
  void add_to(CLI::App& command, bool many);

  // One choice for each name. Throws UsageError for a name that is not known.
  std::vector<QuantizerChoice> resolve() const;
  QuantizerChoice resolve_one() const;  // throws UsageError for a list

 private:
  QuantizerChoice with_name(const std::string& name) const;
  void add_learning_to(CLI::App& command);
};

}  // namespace strata::cli
