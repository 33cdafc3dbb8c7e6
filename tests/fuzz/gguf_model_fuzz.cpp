// A .gguf file opened as a model, with all its matrices.
#include "strata/model/model.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(gguf_model) {
  const strata::Model model = strata::open_model(strata::fuzz_file("x.gguf", bytes));
  for (const strata::Module& module : model.modules) model.checkpoint->read(module.tensor);
}
