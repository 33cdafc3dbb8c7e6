// An importance matrix for a tiny model.
#include "strata/calibration/imatrix.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/tiny_model.h"

namespace {

strata::Model small_model() {
  const std::filesystem::path path = strata::fuzz_directory() / "model";
  strata::write_tiny_model(path, {});
  return strata::open_model(path);
}

}  // namespace

STRATA_FUZZ_TARGET(imatrix) {
  static const strata::Model model = small_model();
  const strata::Imatrix imatrix = strata::read_imatrix(strata::fuzz_file("x.gguf", bytes), model);
  for (const strata::Module& module : model.modules) imatrix.mean_squares(module.tensor);
}
