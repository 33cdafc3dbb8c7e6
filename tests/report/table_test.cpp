#include "strata/report/table.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"

namespace strata {
namespace {

TEST(Table, AlignsColumnsByDisplayWidth) {
  Table table;
  table.column("layer", Table::Align::Left);
  table.column("ppl");
  table.row({"é", "7"});
  table.row({"second", "12.5"});
  EXPECT_EQ(table.text(), "layer    ppl\né          7\nsecond  12.5\n");
  EXPECT_EQ(table.markdown(), "| layer | ppl |\n|---|---:|\n| é | 7 |\n| second | 12.5 |\n");
}

TEST(Table, RefusesARowOfAnotherWidth) {
  Table table;
  table.column("one");
  EXPECT_THROW(table.row({"a", "b"}), Error);
}

TEST(Bar, FillsInEighthsAndKeepsItsWidth) {
  EXPECT_EQ(bar(0, 4), "    ");
  EXPECT_EQ(bar(1, 4), "████");
  EXPECT_EQ(bar(0.5, 4), "██  ");
  EXPECT_EQ(bar(0.53125, 4), "██▏ ");
  EXPECT_EQ(bar(2, 4), "████");
  for (double fraction = 0; fraction <= 1; fraction += 0.01) EXPECT_EQ(display_width(bar(fraction, 7)), 7u);
}

}  // namespace
}  // namespace strata
