#pragma once

#include <string>
#include <vector>

#include "strata/report/line_chart.h"
#include "strata/report/table.h"

namespace strata {

// One self-contained page: charts above, sections below; it loads nothing. A click on a legend hides or shows
// that series in every chart, and what a cell of a heat map has to say appears beside the pointer.
struct HtmlPage {
  struct Section {
    std::string title, note;
    Table table;                            // none where it has no columns
    std::vector<std::string> figures = {};  // complete <svg> elements
    std::string listing = "";               // text as it is typed, such as commands
  };
  std::string title, note;
  std::vector<LineChart> charts;
  std::vector<Section> sections;
};

std::string html(const HtmlPage& page);

}  // namespace strata
