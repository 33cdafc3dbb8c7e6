#include "strata/checkpoint/tokenizer.h"

#include <gtest/gtest.h>

#include "strata/core/file.h"
#include "tests/checkpoint/support.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

// Tokens predicted by windows of 512 without overlap, the first of each not predicted, the last incomplete
// window dropped: the figures that Hugging Face's tokenizer gives for these files.
size_t predicted_tokens(size_t tokens) {
  return tokens / 512 * 511;
}

TEST(Tokenizer, GoldenTokenCounts) {
  const auto tokenizer = make_tokenizer(read_vocabulary(STRATA_SOURCE_DIR "/models/tiny-llama"));
  const std::string wikitext = read_text(STRATA_SOURCE_DIR "/data/wikitext-2/wiki.test.raw");
  const std::string novel = read_text(STRATA_SOURCE_DIR "/data/books/the-man-who-was-thursday.txt");
  const auto wikitext_ids = tokenizer->encode(wikitext);
  EXPECT_EQ(predicted_tokens(wikitext_ids.size()), 342881u);
  EXPECT_EQ(predicted_tokens(tokenizer->encode(novel).size()), 84826u);
  EXPECT_EQ(tokenizer->decode(wikitext_ids), wikitext);
}

}  // namespace
}  // namespace strata
