#include "strata/report/html_page.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "strata/core/file.h"
#include "tests/support/count.h"

namespace strata {
namespace {

LineChart falling_chart() {
  LineChart chart;
  chart.title = "Perplexity on <text> & \"more\"";
  chart.x_label = "stored bits a weight";
  chart.y_label = "PPL";
  chart.log_y = true;
  chart.series = {{"uniform", {{2, 1000}, {3, 100}, {4, 10}}}, {"nsds", {{2, 500}, {3, 50}, {4, 9}}}};
  chart.baseline = 8;
  chart.baseline_name = "unquantized";
  return chart;
}

TEST(LineChart, EquallySpacedPowersLieOnALineOfALogarithmicAxis) {
  const std::string drawing = svg(falling_chart());
  const size_t at = drawing.find("points=\"") + 8;
  double x[3], y[3];
  ASSERT_EQ(
      std::sscanf(drawing.c_str() + at, "%lf,%lf %lf,%lf %lf,%lf", &x[0], &y[0], &x[1], &y[1], &x[2], &y[2]),
      6);
  EXPECT_LT(x[0], x[1]);
  EXPECT_NEAR(x[1] - x[0], x[2] - x[1], 0.11);
  EXPECT_LT(y[0], y[1]);  // SVG counts downwards
  EXPECT_NEAR(y[1] - y[0], y[2] - y[1], 0.11);
}

TEST(LineChart, LeavesOutWhatCannotBeDrawn) {
  LineChart chart = falling_chart();
  const size_t points = count(svg(chart), "<circle");
  EXPECT_EQ(points, 6u);
  chart.series[0].points.insert(chart.series[0].points.begin(), {1, std::numeric_limits<double>::infinity()});
  chart.series[1].points.insert(chart.series[1].points.begin(), {1, 0});
  const std::string drawing = svg(chart);
  EXPECT_EQ(count(drawing, "<circle"), points);
  EXPECT_EQ(count(drawing, "inf"), 0u);
  EXPECT_EQ(count(drawing, "nan"), 0u);
}

TEST(LineChart, DrawsWithoutPointsAndWithASinglePoint) {
  LineChart chart;
  EXPECT_EQ(count(svg(chart), "nan"), 0u);
  chart.series = {{"one", {{3, 7}}}};
  EXPECT_EQ(count(svg(chart), "<circle"), 1u);
  EXPECT_EQ(count(svg(chart), "nan"), 0u);
}

TEST(LineChart, TextCannotBreakTheMarkup) {
  const std::string drawing = svg(falling_chart());
  EXPECT_EQ(count(drawing, "<text>"), 0u);
  EXPECT_GT(count(drawing, "&lt;text&gt; &amp; &quot;more&quot;"), 0u);
}

// screenshot.py looks at this page in a browser: it gives the file's name.
TEST(HtmlPage, HoldsChartsAndTablesAndLoadsNothing) {
  HtmlPage page;
  page.title = "Quantizing <model>";
  page.charts = {falling_chart()};
  HtmlPage::Section section;
  section.title = "All cells";
  section.table.column("method", Table::Align::Left);
  section.table.column("PPL");
  section.table.row({"a<b", "3.5"});
  page.sections.push_back(section);
  const std::string text = html(page);
  EXPECT_EQ(count(text, "<svg"), 1u);
  EXPECT_EQ(count(text, "<td class=\"left\">a&lt;b</td><td>3.5</td>"), 1u);
  EXPECT_EQ(count(text, "src="), 0u);
  EXPECT_EQ(count(text, "href="), 0u);
  if (const char* path = std::getenv("STRATA_TEST_PAGE")) write_text(path, text);
}

}  // namespace
}  // namespace strata
