#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace strata {

struct ChartSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x ascending
  bool joined = true;                             // by a line; otherwise larger marks alone
};

// Curves over one axis, as SVG.
struct LineChart {
  std::string title, x_label, y_label;
  bool log_y = false;
  std::vector<ChartSeries> series;
  // A horizontal line that the curves approach, such as the unquantized model's perplexity.
  std::optional<double> baseline;
  std::string baseline_name;
};

// A complete <svg> element that needs no style sheet: axes with round ticks, a marker and a tooltip at every
// point, and a legend. The same series name has the same look in every chart of one list. Points that are not
// finite (or not positive on a logarithmic axis) are left out.
std::string svg(const LineChart& chart);

// Text with the characters that markup uses replaced.
std::string escape_markup(const std::string& text);

}  // namespace strata
