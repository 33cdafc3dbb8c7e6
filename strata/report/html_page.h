#pragma once

#include <string>
#include <vector>

#include "strata/report/line_chart.h"
#include "strata/report/table.h"

namespace strata {

// One self-contained page: charts above, tables below; it loads nothing. A click on a legend hides or shows
// that series in every chart.
struct HtmlPage {
  struct Section {
    std::string title, note;
    Table table;
  };
  std::string title, note;
  std::vector<LineChart> charts;
  std::vector<Section> sections;
};

std::string html(const HtmlPage& page);

}  // namespace strata
