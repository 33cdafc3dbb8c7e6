// A tokenizer.model, and a text in its pieces.
#include "strata/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(tokenizer_model) {
  strata::fuzz_file("tokenizer.model", bytes);
  const strata::Vocabulary vocabulary = strata::read_vocabulary(strata::fuzz_directory());
  const auto tokenizer = strata::make_tokenizer(vocabulary);
  tokenizer->decode(tokenizer->encode("It's the end, 123\xff\xe4\xbd\xa0 <|end|> word"));
}
