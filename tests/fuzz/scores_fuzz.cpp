// A scores.json, written again.
#include "strata/allocation/scores.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(scores) {
  const strata::Scores scores = strata::read_scores(strata::fuzz_file("scores.json", bytes));
  strata::modules_of(scores);
  strata::write_scores(strata::fuzz_directory() / "again.json", scores);
  strata::read_scores(strata::fuzz_directory() / "again.json");
}
