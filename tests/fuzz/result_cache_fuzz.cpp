// A cache of results, of which the identity {} is asked for.
#include "strata/calibration/result_cache.h"
#include "strata/core/text.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(result_cache) {
  const strata::Json identity = strata::Json::object();
  strata::fuzz_file(fmt::format("results-{:016x}.jsonl", strata::fnv1a(identity.dump())), bytes);
  strata::ResultCache(strata::fuzz_directory(), "results", identity).find("layer 0");
}
