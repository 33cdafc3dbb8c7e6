// A base file of llama-perplexity.
#include "strata/evaluation/kl_base.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(kl_base) {
  const strata::KlBase base(strata::fuzz_file("x.bin", bytes));
  for (int64_t row = 0; row < base.rows(); ++row) base.row(row).log_probability(base.vocabulary() - 1);
}
