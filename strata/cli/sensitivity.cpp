#include "strata/cli/sensitivity.h"

#include "strata/model/decoder.h"

namespace strata::cli {

void SensitivityCliOptions::add_to(CLI::App& command) {
  const std::string group = "NSDS";
  command.add_option("--tau", tau, "share of the squared singular values that is kept")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--entropy", entropy,
                  "structural expressiveness: the sum times exp(entropy) or divided by it")
      ->check(CLI::IsMember({"multiply", "divide"}))
      ->capture_default_str()
      ->group(group);
  command.add_option("--mad", mad, "deviation scaled by 1.4826 (consistent) or not (plain)")
      ->check(CLI::IsMember({"consistent", "plain"}))
      ->capture_default_str()
      ->group(group);
}

SensitivityOptions SensitivityCliOptions::resolve(const CommonOptions& common) const {
  SensitivityOptions options;
  options.nsds.tau = tau;
  options.nsds.multiply_entropy = entropy == "multiply";
  options.nsds.consistent_mad = mad == "consistent";
  options.device = parse_device(common.device);
  options.seed = common.seed;
  return options;
}

std::string method_list() {
  std::string list;
  for (const SensitivityMethod& method : sensitivity_methods())
    list += (list.empty() ? "" : ", ") + std::string(method.name);
  return list;
}

}  // namespace strata::cli
