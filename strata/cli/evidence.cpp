#include "strata/cli/evidence.h"

#include "strata/cli/common.h"

namespace strata::cli {

void add_evidence(Command& command, WorkbenchOptions& options) {
  command.add("Calibration", declare(options), ModelKind::Language);
  add_declared(command, "Method", sensitivity_methods(), options.methods);
}

void add_quantizers(Command& command, OptionValues& options) {
  add_declared(command, "Quantizer", quantizers(), options);
}

}  // namespace strata::cli
