#include "strata/core/text.h"

#include <gtest/gtest.h>

namespace strata {
namespace {

TEST(Text, PrintableKeepsReadableNames) {
  EXPECT_EQ(printable("model.layers.0.weight"), "model.layers.0.weight");
  EXPECT_EQ(printable("caf\xc3\xa9"), "caf\xc3\xa9");
}

TEST(Text, PrintableReplacesControlCharactersAndBadBytes) {
  EXPECT_EQ(printable("a\nb\x1b[31mc\x7f"), "a?b?[31mc?");
  EXPECT_EQ(printable("a\xff\xc3z"), "a??z");
}

TEST(Text, PrintableCutsLongNamesBetweenCharacters) {
  EXPECT_EQ(printable("abcdef", 3), "abc...");
  EXPECT_EQ(printable("ab\xc3\xa9z", 3), "ab...");
}

TEST(Text, Utf8CharacterLength) {
  EXPECT_EQ(utf8_character_length("a"), 1u);
  EXPECT_EQ(utf8_character_length("\xc3\xa9"), 2u);
  EXPECT_EQ(utf8_character_length("\xe2\x82\xac"), 3u);
  EXPECT_EQ(utf8_character_length("\xf0\x9f\x98\x80"), 4u);
  EXPECT_EQ(utf8_character_length(""), 0u);
  EXPECT_EQ(utf8_character_length("\xe2\x82"), 0u) << "truncated";
  EXPECT_EQ(utf8_character_length("\x80"), 0u) << "continuation alone";
  EXPECT_EQ(utf8_character_length("\xc0\xaf"), 0u) << "overlong";
  EXPECT_EQ(utf8_character_length("\xe0\x80\xaf"), 0u) << "overlong";
  EXPECT_EQ(utf8_character_length("\xed\xa0\x80"), 0u) << "surrogate";
  EXPECT_EQ(utf8_character_length("\xf4\x90\x80\x80"), 0u) << "above U+10FFFF";
}

}  // namespace
}  // namespace strata
