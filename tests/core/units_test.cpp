#include "strata/core/units.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"

namespace strata {
namespace {

TEST(Units, ParsesSizes) {
  EXPECT_EQ(parse_bytes("123456"), 123456u);
  EXPECT_EQ(parse_bytes("4.5GiB"), 4831838208u);
  EXPECT_EQ(parse_bytes("2 MB"), 2000000u);
  EXPECT_EQ(parse_bytes("1KiB"), 1024u);
}

TEST(Units, RefusesWhatIsNotASize) {
  for (const char* text : {"", "GiB", "-1MB", "3 parsecs", "nan", "1e40GiB", "0"})
    EXPECT_THROW(parse_bytes(text), UsageError) << text;
}

TEST(Units, Formats) {
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(4831838208u), "4.50 GiB");
  EXPECT_EQ(format_seconds(12.34), "12.3 s");
  EXPECT_EQ(format_seconds(192), "3 min 12 s");
  EXPECT_EQ(format_seconds(7500), "2 h 05 min");
}

}  // namespace
}  // namespace strata
