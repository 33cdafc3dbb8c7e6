#include "strata/pipeline/effort.h"

#include "strata/calibration/calibration.h"
#include "strata/core/error.h"

namespace strata {

const std::vector<Effort>& efforts() {
  static const std::vector<Effort> list = {
      {"quick", "weights alone", "uniform:exact", "hqq"},
      {"standard", "costs measured by KL divergence, and GPTQ", "kl", "gptq", kCalibrationTokens},
      {"best", "the same costs, codes learned layer by layer, and tuning end to end", "kl", "signround",
       4 * kCalibrationTokens, true},
  };
  return list;
}

const Effort& find_effort(std::string_view name, bool runnable) {
  if (name == "auto") name = runnable ? "standard" : "quick";
  std::string names;
  for (const Effort& effort : efforts()) {
    if (effort.name == name) return effort;
    names += ", " + effort.name;
  }
  fail_usage("effort '{}' is not known; expected auto{}", name, names);
}

std::string effort_help() {
  std::string help =
      "how much work the file may cost; auto: standard, and quick for a model that cannot be run";
  for (const Effort& effort : efforts()) help += "; " + effort.name + ": " + effort.summary;
  return help + "; standard and best read the text of --calib, or else text that the model writes";
}

}  // namespace strata
