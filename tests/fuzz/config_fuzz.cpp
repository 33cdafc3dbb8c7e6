// A model's config.json, and the tensors that it asks for.
#include "strata/model/config_json.h"
#include "strata/model/layout.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(config) {
  const strata::ModelConfig config = strata::read_config(strata::fuzz_file("config.json", bytes));
  strata::expected_tensors(config);
  strata::expert_stacks(config);
  strata::linear_modules(config);
}
